// Differences between Original and Object, by path and in words.

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

// Every path that differs: {path, before, after}; undefined for a missing value.
export function differences(before, after, path = [], into = []) {
  if (into.length > 500) return into;
  if (isObject(before) && isObject(after)) {
    for (const name of Object.keys({ ...before, ...after })) {
      differences(before[name], after[name], [...path, name], into);
    }
  } else if (JSON.stringify(before) !== JSON.stringify(after)) {
    into.push({ path, before, after });
  }
  return into;
}

const short = (value) => {
  if (value === undefined) return "–";
  if (typeof value === "string") return value.length > 24 ? `${value.slice(0, 23)}…` : value || "\"\"";
  if (isObject(value)) return "{…}";
  return Array.isArray(value) ? `[${value.length}]` : String(value);
};

// The differences in a line: "Stage none → local, Params +2".
export function changed(event) {
  const { Object: after, Original: before } = event;
  if (event.Type === "hydrant" && event.Action === "gap") {
    return `${short(after?.Events ?? "some")} events are missing here`;
  }
  if (!isObject(after)) return "";
  if (!isObject(before)) return event.Action === "create" ? "new" : typeof after.Name === "string" && after.Name;
  const words = [];
  for (const name of Object.keys({ ...before, ...after })) {
    // These fields change with every update.
    if (name.startsWith("LastModified")) continue;
    if (words.length > 4) return `${words.join(", ")}, …`;
    const found = differences(before[name], after[name], [name]);
    if (!found.length) continue;
    if (isObject(before[name]) && isObject(after[name])) {
      const added = found.filter((one) => one.before === undefined).length;
      const gone = found.filter((one) => one.after === undefined).length;
      const others = found.length - added - gone;
      words.push(`${name}${added ? ` +${added}` : ""}${gone ? ` −${gone}` : ""}${others ? ` ~${others}` : ""}`);
    } else {
      words.push(`${name} ${short(before[name])} → ${short(after[name])}`);
    }
  }
  return words.join(", ") || "nothing";
}
