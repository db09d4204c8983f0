// What the server does, as it does it: asks /v1/stats again and again and shows the answer.

import { stats } from "./api.js";
import { bytes, find, make, setText, time, whole } from "./dom.js";

/** Between two looks, in ms: while something runs or the panel is open, and otherwise. */
const OFTEN = 1000;
const SELDOM = 4000;
/** Points of the curve. */
const POINTS = 120;

const PHASES = { queued: "In the queue", "waiting for memory": "Waits for memory", prompt: "Reads", thinking: "Thinks", answer: "Answers" };

/** Looks at the server as long as the page is open. `heard(stats)` comes with each answer, `lost(error)` without one. */
export function watch({ heard, lost, busy }) {
  let timer = 0;
  const look = async () => {
    clearTimeout(timer);
    try {
      heard(await stats());
    } catch (error) {
      lost(error);
    }
    clearTimeout(timer);
    const often = !document.hidden && busy();
    timer = setTimeout(look, often ? OFTEN : SELDOM);
  };
  document.addEventListener("visibilitychange", () => document.hidden || look());
  look();
  return look;
}

/** The panel. */
export class Panel {
  /** Tokens a second, the last ones last. */
  #rates = [];
  #before = null;

  update(now) {
    this.#model(now);
    this.#requests(now.requests);
    this.#speed(now);
    this.#cache(now);
    this.#memory(now.memory);
  }

  #model({ model, uptime_s: uptime }) {
    facts(find("live-model"), [
      ["Model", model.name],
      ["Context", `${whole(model.context_length)} tokens`],
      ["Up for", time(uptime)],
    ]);
  }

  #requests({ running, running_limit: places, waiting, waiting_limit: limit, now }) {
    setText(find("live-load"), `${running} of ${places} run${waiting ? `, ${waiting} of ${limit} wait` : ""}`);
    const list = find("live-now");
    list.replaceChildren(...(now.length ? now.map(request) : [make("li.none", "Nothing at the moment")]));
  }

  #speed(now) {
    const before = this.#before;
    this.#before = now;
    const seconds = before ? now.uptime_s - before.uptime_s : 0;
    if (seconds < 0) this.#rates = []; // another process
    if (seconds <= 0.2) return;
    const rate = (sum) => Math.max(0, (sum(now) - sum(before)) / seconds);
    const written = rate((s) => s.tokens.generated);
    const read = rate((s) => s.tokens.prompt - s.tokens.cached);
    this.#rates.push(written);
    this.#rates.splice(0, this.#rates.length - POINTS);
    setText(find("live-speed"), `${written < 100 ? Number(written.toFixed(1)) : whole(written)} written${read >= 1 ? `, ${whole(read)} read` : ""}`);
    spark(find("live-spark"), this.#rates);
  }

  #cache({ tokens, cache }) {
    const computed = tokens.prompt - tokens.cached;
    const sources = [
      ["RAM", cache.memory_tokens],
      ["disk and store", cache.tier_tokens],
      ["computed", computed],
    ];
    setText(find("live-hits"), tokens.prompt ? `${Math.round((100 * tokens.cached) / tokens.prompt)} % cached` : "");
    const colours = ["b1", "b3", "b4"];
    bar(find("live-cache"), sources.map(([, n], i) => [n, colours[i]]), 0);
    const lines = sources.map(([name, n], i) => [name, whole(n), colours[i]]);
    if (cache.pages) lines.push(["Pages in use, kept, in all", `${whole(cache.pages_used)}, ${whole(cache.pages_kept)}, ${whole(cache.pages)}`]);
    for (const tier of cache.tiers) {
      lines.push([tier.name, `${bytes(tier.kept_bytes || tier.written_bytes)}, ${bytes(tier.read_bytes)} read`]);
      if (tier.failures) lines.push([`${tier.name}, failures`, whole(tier.failures)]);
    }
    facts(find("live-cache-facts"), lines);
  }

  #memory({ plan_bytes: plan, resident_bytes: resident, machine_bytes: machine, available_bytes: free }) {
    setText(find("live-resident"), resident ? `${bytes(resident)} used` : "");
    const parts = plan ? [["weights", plan.weights, "b1"], ["context", plan.context, "b2"], ["scratch", plan.scratch, "b3"], ["other", plan.other, "b4"]] : [];
    const planned = parts.reduce((sum, [, n]) => sum + n, 0);
    find("live-memory").hidden = !planned;
    bar(find("live-memory"), parts.map(([, n, colour]) => [n, colour]), planned);
    const lines = parts.map(([name, n, colour]) => [name, bytes(n), colour]);
    if (planned) lines.push(["Planned", bytes(planned)]);
    if (machine) lines.push(["Free on this machine", `${bytes(free)} of ${bytes(machine)}`]);
    facts(find("live-memory-facts"), lines);
  }
}

/** A request that runs or waits. */
function request(r) {
  const reads = r.phase === "prompt";
  const rate = r.tokens_per_second === null ? "" : `${r.tokens_per_second.toFixed(1)} tokens/s`;
  const prompt = `prompt ${whole(r.prompt_tokens)}${r.cached_tokens ? `, ${whole(r.cached_tokens)} cached` : ""}`;
  const done = make("div.bar");
  if (reads) bar(done, [[r.cached_tokens, "b2"], [r.read_tokens - r.cached_tokens, "b1"]], r.prompt_tokens);
  return make("li", { ariaLabel: PHASES[r.phase] ?? r.phase },
    make("div.row", make("b", PHASES[r.phase] ?? r.phase), make("span", reads ? `${whole(r.read_tokens)} of ${whole(r.prompt_tokens)}` : rate)),
    reads && done,
    make("div.row", make("span", r.generated_tokens ? `${whole(r.generated_tokens)} tokens, ${prompt}` : prompt), make("span", time(r.age_s))));
}

/** Names and values; a colour is that of the part of a bar. */
function facts(list, lines) {
  const wanted = lines.map(([name, value, colour]) => `${name}\n${value}\n${colour}`).join("\n");
  if (list.shown === wanted) return;
  list.shown = wanted;
  list.replaceChildren(...lines.flatMap(([name, value, colour]) => [make("dt", colour && make(`i.${colour}`), name), make("dd", value)]));
}

/** A bar of parts, as long as `whole`, or as all parts together. */
function bar(element, parts, whole) {
  const all = whole || parts.reduce((sum, [n]) => sum + n, 0);
  parts.forEach(([n, colour], i) => {
    const part = element.children[i] ?? element.appendChild(make(`i.${colour}`));
    part.style.width = all ? `${(100 * n) / all}%` : "0";
  });
}

/** A curve, the newest value at the right. */
function spark(svg, values) {
  const top = Math.max(1, ...values);
  const room = Math.max(30, values.length);
  const points = values.map((v, i) => `${(240 * (room - values.length + i)) / (room - 1)},${42 - (38 * v) / top}`);
  const first = points[0]?.split(",")[0] ?? 240;
  svg.querySelector("polyline").setAttribute("points", points.join(" "));
  svg.querySelector("polygon").setAttribute("points", `${first},44 ${points.join(" ")} 240,44`);
}
