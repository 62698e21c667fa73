// The fragment of a view: `#view?name=value&...`. A credential (`#token=`, of the first view) is removed at once.

export function place() {
  const [view, query] = location.hash.replace(/^#token=/, "#now?token=").slice(1).split("?");
  return { view: view || "now", query: new URLSearchParams(query) };
}

export const parameters = () => Object.fromEntries(place().query);

export const all = (name) => place().query.getAll(name);

// Sets parameters without leaving the view; null removes one, a list sets several values.
export function setParameters(changes) {
  const { view, query } = place();
  for (const [name, value] of Object.entries(changes)) {
    query.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one != null && one !== "") query.append(name, one);
    }
  }
  history.replaceState(null, "", `#${view}${query.size ? `?${query}` : ""}`);
}
