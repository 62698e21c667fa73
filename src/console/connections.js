// Connections: the slowest first. A row opens to its registrations.

import { RefusedError, curl, get, may, remove } from "./api.js";
import {
  ago, announce, bytes, button, count, empty, fact, failure, fill, h, millis, quiet, sortable, table,
} from "./dom.js";
import { AGE, MOST, cut, listing } from "./pane.js";
import { parameters, setParameters } from "./route.js";
import { state } from "./status.js";

const ENDED = "This connection has ended.";

// Heads and sort keys; numbers from `Age` to `Dropped`.
const COLUMNS = Object.entries({
  Principal: "Principal", From: "RemoteAddr", Age: "CreateTime", Registrations: "Registrations", Queued: "QueuedBytes",
  Oldest: "QueuedAgeMilliseconds", Delivered: "DeliveredEvents", Dropped: "DroppedEvents", Policy: "Overflow",
  Encoding: "Encoding",
}).map(([head, key], at) => ({ head, key, number: at > 1 && at < 8 }));

export function show(element) {
  const note = quiet();

  const look = (age = AGE) => get(`connections?Type=In(websocket,stream)&sort=queued&limit=${MOST}`, age);

  function sorted(all, key) {
    const by = (key) => (a, b) => {
      const [x, y] = [a[key] ?? "", b[key] ?? ""];
      return typeof x === "number" ? y - x : x.localeCompare(y);
    };
    return all.sort(by("RemoteAddr")).sort(by("Principal")).sort(by(key));
  }

  function draw(all) {
    const { sort = "QueuedAgeMilliseconds", open } = parameters();
    note.hidden = all.length === 0;
    note.textContent = cut(all) || `Websockets and streams: ${all.length}`;
    const columns = COLUMNS.map((column) => sortable(column, column.key === sort, () => {
      setParameters({ sort: column.key });
      view.again();
    }));
    const rows = sorted(all, sort).map((one) => ({
      attributes: { "data-row": one.RemoteAddr,
        class: one.RemoteAddr === open ? "chosen" : one.DroppedEvents > 0 ? "attention" : "" },
      cells: [
        button(one.Principal, () => view.choose(one.RemoteAddr), { class: "link" }),
        one.RemoteAddr, ago(one.CreateTime), count(one.Registrations), bytes(one.QueuedBytes),
        millis(one.QueuedAgeMilliseconds), count(one.DeliveredEvents), count(one.DroppedEvents),
          one.Overflow ?? "–", one.Encoding ?? "–",
      ],
    }));
    return rows.length ? table("Connections", columns, rows)
      : state.word === "hidden" ? empty("The list requires the claim connections/list.")
      : empty("No client is connected. Connect one:",
        curl(`-N '${location.origin}/api/v3/events?register=machines.*.*'`));
  }

  // The opened connection: {path, made, place, end}.
  let opened;

  // Another client may have got its address.
  async function fresh(own) {
    const one = await get(own.path);
    own.made ??= one.CreateTime;
    if (one.CreateTime !== own.made) throw new RefusedError(404, [ENDED]);
    return one;
  }

  async function inspect(address, isNew) {
    if (isNew) opened = { path: `connections/${encodeURIComponent(address)}` };
    const own = opened;
    const one = !own.end && await fresh(own).catch((error) => {
      if (error.status !== 404) throw error;
      own.end = ["p.attention", ENDED];
    });
    if (own.end) return [h("h2", address), h(...own.end)];
    own.place ??= closing(one, own);
    return [h("h2", one.Principal), facts(one), specs(one), own.place];
  }

  function closing(one, own) {
    // Not to be taken for another node.
    const place = h("div.closing", { "data-row": "closing" });
    const path = encodeURIComponent(one.RemoteAddr);
    const explain = h("a.button", { href: `#explain?connection=${path}` }, "Explain an event for it");
    const first = (allowed) => fill(place, allowed && button("Close connection…", ask), explain,
      !allowed && quiet("Closing it requires the claim connections/delete."));
    const ask = () => fill(place,
      h("p", "The client receives the close code 1001 \"connection deleted\" and may reconnect at once."),
      button("Close now", close, { class: "danger" }), button("Cancel", () => first(true)));
    async function close() {
      try {
        await fresh(own);
        await remove(own.path);
        own.end = ["p.good", "Closed."];
        announce("Closed");
        view.again(0);
      } catch (error) {
        fill(place, failure(error));
      }
    }
    may("connections", "delete", one.RemoteAddr).catch(() => true).then(first);
    return place;
  }

  const view = listing(element, "Connection", note, look, draw, inspect);
  return view.end;
}

function facts(one) {
  return h("dl", fact("From", one.RemoteAddr), fact("Since", new Date(one.CreateTime).toLocaleString()),
    fact("Encoding", one.Encoding), fact("Policy", one.Overflow), fact("Delivered", count(one.DeliveredEvents)),
    fact("Queued", `${count(one.QueuedEvents)} events, ${bytes(one.QueuedBytes)}`),
    fact("Lost", one.DroppedEvents ? `${count(one.DroppedEvents)} events: the client was too slow` : "nothing"));
}

function specs(one) {
  const columns = ["Registration", "#Hits", "#Last",
    { head: "Cost", number: true, title: "Total work of the filter in milliseconds" }];
  const rows = (one.Specs ?? []).map((spec) => [h("code", spec.Spec), count(spec.Hits), ago(spec.LastHit),
    spec.FilterBytes ? millis(spec.FilterWork / 1e6) : "–"]);
  return rows.length ? table("Registrations", columns, rows)
    : h("p.attention", "This connection has no registrations, so it receives no events.");
}
