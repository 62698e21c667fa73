// The address of a view: `#view?name=value&...`. No credential stays in it (`#token=` is removed at once).

/** The view that the fragment names, and what goes with it. */
export function place() {
  const [view, query = ""] = window.location.hash.slice(1).split("?");
  return { view: view || "now", query: new URLSearchParams(query) };
}

/** The last value of each parameter. */
export const parameters = () => Object.fromEntries(place().query);

/** All values of one. */
export const all = (name) => place().query.getAll(name);

/** Sets parameters without leaving the view; null takes one away, a list gives it several values. */
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
