/* Watches a RunPod job from a page, without a build step:

     <script src="/static/celery_runpod/celery_runpod.js" defer></script>
     <runpod-job task="3f1e9c7a-..." src="/runpod/job"></runpod-job>

   The element shows state, reason and progress, and the text of the chunks of a job that streams, as text alone. It fires
   `runpod-update`, `runpod-end` and `runpod-error`, whose `detail` is the update, or {status} of the answer that ended it;
   and `runpod-chunk` for each chunk {id, output, attempt, event}. With the attribute `no-chunks` it does not show them.
   Its parts have classes for your style sheet: runpod-job-state, -reason, -bar, -progress, -error, -chunks; the element
   itself has data-state.

     const watch = CeleryRunPod.watch({task, src: "/runpod/job", onUpdate, onChunk, onEnd, onError});
     watch.close();

   It listens to the events of the server. Where these are refused (no place is left, a proxy in between), it asks for the
   status every few seconds instead. docs/live.md has the fields of an update. */
(() => {
  "use strict";

  const POLL_MS = 3000;
  const SLOWEST_POLL_MS = 30000;
  const POLL_WITH_CHUNKS_MS = 500;
  const MOST_TEXT = 200;

  const texts = {
    PENDING: "Waiting for a worker to accept it",
    WAITING: "Waiting to be submitted",
    JOINED: "Waiting for the same job of another call",
    SUBMITTING: "Being submitted",
    IN_QUEUE: "In the queue",
    IN_PROGRESS: "Running",
    COMPLETED: "Done, the result is being stored",
    SUCCESS: "Done",
    FAILURE: "Failed",
    REVOKED: "Cancelled",
    NO_WORKER: "no worker is up",
    EARLIER_STEP: "an earlier step has not ended",
    COUNTDOWN: "its time has not come",
    COLD_START: "a GPU is being started",
    NO_CAPACITY: "no GPU is free",
    MAX_IN_FLIGHT: "other jobs go first",
    BUDGET: "other jobs go first",
    ON_HOLD: "paused",
    RETRY: "it is tried again",
  };

  const GAP = " [\u2026] "; // chunks are missing here

  function watch({ task, src = "/runpod/job", onUpdate, onChunk, onEnd, onError }) {
    const query = `?task=${encodeURIComponent(task)}`;
    let source = null;
    let timer = null;
    let closed = false;
    let waitMs = POLL_MS;
    let after = ""; // the id of the last chunk

    function close() {
      closed = true;
      clearTimeout(timer);
      if (source) source.close();
    }

    function parsed(text) {
      try {
        return JSON.parse(text);
      } catch {
        return null; // cut off in between: the next one is whole
      }
    }

    function takeChunk(chunk) {
      if (closed || !chunk) return;
      after = chunk.id;
      if (onChunk) onChunk(chunk);
    }

    function take(update) {
      if (closed || !update) return;
      if (update.ended) close();
      if (onUpdate) onUpdate(update);
      if (update.ended && onEnd) onEnd(update);
    }

    async function poll() {
      let answer = null;
      let more = false;
      try {
        const url = `${src}${query}&after=${encodeURIComponent(after)}`;
        answer = await fetch(url, { credentials: "same-origin", headers: { Accept: "application/json" } });
        const update = answer.ok ? parsed(await answer.text()) : null;
        const chunks = (update && update.chunks) || [];
        chunks.forEach(takeChunk);
        more = chunks.length > 0;
        // The end comes after the last chunk.
        if (update && !(update.ended && more)) take(update);
      } catch {
        answer = null; // the network is away: ask again
      }
      if (closed) return;
      const status = answer ? answer.status : 0;
      if (status >= 400 && status < 500 && status !== 408 && status !== 429) {
        close();
        if (onError) onError({ status });
        return;
      }
      waitMs = answer && answer.ok ? POLL_MS : Math.min(2 * waitMs, SLOWEST_POLL_MS);
      timer = setTimeout(poll, more ? POLL_WITH_CHUNKS_MS : waitMs);
    }

    if (typeof EventSource === "undefined") {
      poll();
    } else {
      source = new EventSource(`${src}/events${query}`);
      source.addEventListener("update", (event) => take(parsed(event.data)));
      source.addEventListener("chunk", (event) => takeChunk(parsed(event.data)));
      source.addEventListener("error", () => {
        // While it is CONNECTING, the browser connects again by itself, and says which event it had last.
        if (!closed && source.readyState === EventSource.CLOSED) poll();
      });
    }
    return { close };
  }

  function textOf(progress) {
    if (progress === null || progress === undefined) return "";
    if (typeof progress === "object") {
      const own = [progress.message, progress.text, progress.status].find((one) => typeof one === "string");
      return (own === undefined ? JSON.stringify(progress) : own).slice(0, MOST_TEXT);
    }
    return String(progress).slice(0, MOST_TEXT);
  }

  function fractionOf(progress) {
    const part = (value, whole) =>
      Number.isFinite(value) && Number.isFinite(whole) && whole > 0 ? Math.min(1, Math.max(0, value / whole)) : null;
    if (typeof progress === "number") return part(progress, progress > 1 ? 100 : 1);
    if (progress === null || typeof progress !== "object") return null;
    const found = [
      part(progress.percent, 100),
      part(progress.step, progress.of),
      part(progress.step, progress.total),
      part(progress.current, progress.total),
      part(progress.done, progress.total),
    ];
    return found.find((one) => one !== null) ?? null;
  }

  /* The text of a chunk: itself, or what it holds under a name that text generators use (worker-vllm: choices, tokens).
     Anything else is shown as JSON, on a line of its own. */
  function textOfChunk(output) {
    if (output === null || output === undefined) return "";
    if (typeof output !== "object") return String(output);
    if (Array.isArray(output)) return output.map(textOfChunk).join("");
    const names = ["choices", "tokens", "delta", "text", "content", "token"];
    const name = names.find((one) => Object.hasOwn(output, one));
    return name === undefined ? `${JSON.stringify(output)}\n` : textOfChunk(output[name]);
  }

  const wordsOf = (name) => (Object.hasOwn(texts, name) ? texts[name] : name);

  class RunPodJob extends HTMLElement {
    static observedAttributes = ["task", "src"];

    connectedCallback() {
      if (!this.hasAttribute("role")) this.setAttribute("role", "status");
      this.restart();
    }

    disconnectedCallback() {
      if (this.watching) this.watching.close();
      this.watching = null;
    }

    attributeChangedCallback() {
      if (this.isConnected) this.restart();
    }

    restart() {
      this.disconnectedCallback();
      if (this.chunks) this.chunks.remove();
      this.chunks = null;
      const task = this.getAttribute("task");
      if (!task) return;
      this.watching = watch({
        task,
        src: this.getAttribute("src") || "/runpod/job",
        onUpdate: (update) => this.show(update),
        onChunk: (chunk) => this.showChunk(chunk),
        onEnd: (update) => this.fire("runpod-end", update),
        onError: (detail) => this.fire("runpod-error", detail),
      });
    }

    fire(name, detail) {
      this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true }));
    }

    show(update) {
      // Of a later step of a chain, what runs now says more.
      const at = update.step || update;
      const fraction = update.ended ? null : fractionOf(at.progress);
      const parts = [["span", "state", wordsOf(at.state)]];
      if (at.reason) parts.push(["span", "reason", wordsOf(at.reason)]);
      if (fraction !== null) parts.push(["progress", "bar", ""]);
      if (!update.ended && textOf(at.progress)) parts.push(["span", "progress", textOf(at.progress)]);
      if (update.error) parts.push(["span", "error", update.error.message || update.error.type]);
      for (const one of [...this.childNodes]) if (one !== this.chunks) one.remove();
      this.prepend(
        ...parts.map(([tag, name, text]) => {
          const part = document.createElement(tag);
          part.className = `runpod-job-${name}`;
          if (tag === "progress") part.value = fraction;
          else part.textContent = String(text);
          return part;
        }),
      );
      this.dataset.state = at.state;
      this.fire("runpod-update", update);
    }

    showChunk(chunk) {
      if (!this.hasAttribute("no-chunks")) {
        if (!this.chunks) {
          this.chunks = document.createElement("div");
          this.chunks.className = "runpod-job-chunks";
          this.append(this.chunks);
        }
        if (chunk.event === "retry") this.chunks.replaceChildren(); // what came before is void
        const text = chunk.event === "gap" ? GAP : textOfChunk(chunk.output);
        text.split("\n").forEach((line, number) => {
          if (number) this.chunks.append(document.createElement("br"));
          if (line) this.chunks.append(line);
        });
      }
      this.fire("runpod-chunk", chunk);
    }
  }

  window.CeleryRunPod = { watch, texts };
  if (!customElements.get("runpod-job")) customElements.define("runpod-job", RunPodJob);
})();
