// The fragment of a view: `#view?name=value&...`. A credential (`#token=`) is removed at once.

// The view and its parameters.
export function place() {
  const [view, query = ""] = window.location.hash.slice(1).split("?");
  return { view: view || "now", query: new URLSearchParams(query) };
}

// The last value of each parameter.
export const parameters = () => Object.fromEntries(place().query);

// All values of a parameter.
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
  const text = query.toString();
  window.history.replaceState(null, "", `#${view}${text ? `?${text}` : ""}`);
}
