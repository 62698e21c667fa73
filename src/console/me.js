// Me: who am I, and how do I get at events from elsewhere? A narrowed token, and lines that work as they are.

import { currentToken, get, tokenClaims } from "./api.js";
import { button, copier, failure, fill, h, quote } from "./dom.js";

export const title = "Me";

export function show(element) {
  const made = h("div", {});
  const claims = tokenClaims();
  const user = claims.sub ?? claims.name ?? claims.user ?? "";
  const name = String(user).replace(/^user:/, "");
  const fact = (term, value) => value && h("div", {}, h("dt", {}, term), h("dd", {}, value));
  const expires = claims.exp ? new Date(claims.exp * 1000) : null;
  const field = (id, label, value, hint) => h("div", { class: "field" }, h("label", { for: id }, label),
    h("input", { id, type: "text", value, spellcheck: "false", autocapitalize: "off", autocomplete: "off" }), hint && h("p", { class: "quiet" }, hint));
  const form = h("form", { class: "form narrow" },
    field("t-ttl", "Lives for", "12h", "30m, 12h, 7d"), field("t-scope", "Types", "machines,jobs", "* is all"),
    field("t-action", "Actions", "get", "get shows all events of an object"), field("t-specific", "Keys", "*"),
    h("button", { type: "submit", class: "primary" }, "Make a narrowed token"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const query = new URLSearchParams(["ttl", "scope", "action", "specific"].map((one) => [one, form.querySelector(`#t-${one}`).value.trim()]));
    try {
      const { Token: token } = await get(`users/${encodeURIComponent(name)}/token?${query}`);
      fill(made, h("h3", {}, "Your token"), h("pre", { class: "raw" }, token), copier("Copy token", token), snippets(token));
    } catch (error) {
      fill(made, failure(error));
    }
  });
  fill(element,
    h("dl", {}, fact("User", name || "unknown"), fact("Token until", expires && expires.toLocaleString()), fact("Server", location.origin)),
    h("h2", {}, "A token for something else"),
    h("p", { class: "quiet" }, "It shows what you see, and of that only what you say here. It never widens your rights."),
    form, made,
    h("p", { class: "quiet" }, "For programs: ", h("a", { href: "/api/v3/hydrant/openapi.json" }, "OpenAPI"), " and ",
      h("a", { href: "/api/v3/hydrant/asyncapi.json" }, "AsyncAPI"), "."),
    h("h2", {}, "Lines that work as they are"), h("p", { class: "quiet" }, "With your own token in them: treat them as a password."),
    button("Show them", (event) => event.target.replaceWith(snippets(currentToken()))));
}

function snippets(token) {
  const spec = "machines.*.*";
  const query = `register=${encodeURIComponent(spec)}`;
  const host = location.host;
  const socket = `${location.protocol === "https:" ? "wss" : "ws"}://${host}/api/v3/ws?token=${token}&${query}`;
  const stream = `${location.origin}/api/v3/events?${query}`;
  const all = {
    "Websocket URL": socket,
    curl: `curl -N -k -H ${quote(`Authorization: Bearer ${token}`)} ${quote(stream)}`,
    Python: `import json, ssl, urllib.request\nrequest = urllib.request.Request("${stream}",\n    headers={"Authorization": "Bearer ${token}", "Accept": "application/x-ndjson"})\ncontext = ssl._create_unverified_context()\nfor line in urllib.request.urlopen(request, context=context):\n    if line.strip():\n        print(json.loads(line)["Key"])`,
    JavaScript: `const events = new EventSource("${stream}&token=${token}");\nevents.onmessage = ({ data }) => console.log(JSON.parse(data));`,
    Go: `request, _ := http.NewRequest("GET", "${stream}", nil)\nrequest.Header.Set("Authorization", "Bearer ${token}")\nrequest.Header.Set("Accept", "application/x-ndjson")\nanswer, err := http.DefaultClient.Do(request)\n// each line of answer.Body is an event`,
    hydrant: `RS_TOKEN=${quote(token)} hydrant watch -E ${location.origin} ${quote(spec)}`,
  };
  const note = h("p", { class: "quiet" }, "-k, and the context of Python, take any certificate, as a self-signed one needs. Leave them out where yours is signed by an authority.");
  return h("div", {}, note, Object.entries(all).map(([name, text]) => h("section", { class: "snippet" }, h("h3", {}, name), h("pre", { class: "raw" }, text), copier("Copy", text))));
}
