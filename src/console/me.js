// Me: who am I? A token with fewer rights, and commands to copy.

import { currentToken, get, me, userName } from "./api.js";
import { VERBATIM, button, copier, fact, failure, field, fill, h, quiet, quote } from "./dom.js";

const FIELDS = [["ttl", "Valid for", "12h", "30m, 12h, 7d"], ["scope", "Types", "machines,jobs", "* for all"],
  ["action", "Actions", "get", "get allows all events of an object"], ["specific", "Keys", "*", "* for all"]];

export function show(element) {
  const made = h("div");
  const name = userName();
  const facts = h("dl", fact("User", name || "unknown"));
  me().then((caller) => fill(facts, known(caller)), () => {});
  const form = h("form.form", h("div.four", FIELDS.map(([id, label, value, hint]) =>
    field(label, h("input", { id, value, ...VERBATIM }), hint))),
    h("button.primary", "Create a restricted token"));
  form.onsubmit = async (event) => {
    event.preventDefault();
    const query = new URLSearchParams(FIELDS.map(([id]) => [id, form.elements[id].value.trim()]));
    try {
      const { Token: token } = await get(`users/${encodeURIComponent(name)}/token?${query}`);
      fill(made, h("h3", "Your token"), h("pre.raw", token), copier("Copy token", token),
        snippets(token));
    } catch (error) {
      fill(made, failure(error));
    }
  };

  fill(element,
    h("h2", "Who you are"), facts,
    h("h2", "A token with fewer rights"),
    quiet("It allows only those of your events that match what you enter here."),
    form, made,
    quiet("For programs: ", h("a", { href: "/api/v3/hydrant/openapi.json" }, "OpenAPI"), " and ",
      h("a", { href: "/api/v3/hydrant/asyncapi.json" }, "AsyncAPI"), "."),
    h("h2", "Commands to copy"), quiet("They contain your token: treat them like a password."),
    button("Show commands", (event) => event.target.replaceWith(snippets(currentToken()))));
}

const MOST = 30;

function known(me) {
  const [all, narrowing] = [me.Claims, me.Narrowing];
  const list = (claims) => h("ul.plain", claims.slice(0, MOST)
    .map((claim) => h("li", h("code", claim), h("span.quiet", ` ${inWords(claim)}`))),
    claims.length > MOST && h("li.quiet", `and ${claims.length - MOST} more`));
  return [fact("Principal", me.Principal), fact("Token until", me.Expires && new Date(me.Expires).toLocaleString()),
    fact("Claims", all.length ? list(all) : "none: you see only events about your own connections"),
    narrowing.length > 0 && fact("Restricted to", list(narrowing)),
    me.HasTenant && fact("Tenant", "yes: for the types that it lists, you see only the objects that it lists")];
}

function inWords(claim) {
  const [scope, action, specific] = claim.split("/");
  const actions = action.split(",");
  const what = actions.includes("*") || actions.includes("get") ? "all events"
    : `events with the action ${actions.join(" or ")}`;
  const types = scope === "*" ? "all types" : scope.replaceAll(",", ", ");
  return `${what} of ${types}${specific === "*" ? "" : `, key ${specific}`}`;
}

function snippets(token) {
  const spec = "machines.*.*";
  const query = `register=${encodeURIComponent(spec)}`;
  const stream = `${location.origin}/api/v3/events?${query}`;
  const all = {
    "Websocket URL": `${location.origin.replace("http", "ws")}/api/v3/ws?token=${token}&${query}`,
    curl: `curl -N -k -H ${quote(`Authorization: Bearer ${token}`)} ${quote(stream)}`,
    Python: `import ssl, urllib.request
request = urllib.request.Request("${stream}",
    headers={"Authorization": "Bearer ${token}", "Accept": "application/x-ndjson"})
context = ssl._create_unverified_context()
for line in urllib.request.urlopen(request, context=context):
    print(line.decode().strip())`,
    JavaScript: `const events = new EventSource("${stream}&token=${token}");
events.onmessage = ({ data }) => console.log(JSON.parse(data));`,
    Go: `package main

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
)

func main() {
	request, _ := http.NewRequest("GET", "${stream}", nil)
	request.Header.Set("Authorization", "Bearer ${token}")
	request.Header.Set("Accept", "application/x-ndjson")
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		panic(err)
	}
	io.Copy(os.Stdout, answer.Body)
}`,
    hydrant: `RS_TOKEN=${quote(token)} hydrant watch -E ${location.origin} ${quote(spec)}`,
  };
  const note = quiet("-k, the context in Python and InsecureSkipVerify in Go accept any certificate. ",
    "Omit them if yours is signed by an authority.");
  return h("div", note, Object.entries(all).map(([name, text]) => h("section.snippet",
    h("h3", name), h("pre.raw", text), copier("Copy", text))));
}
