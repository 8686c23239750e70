"use strict";

const talk = document.getElementById("talk");
const form = document.getElementById("ask");

function add(tag, name, text) {
  const part = document.createElement(tag);
  part.className = name;
  part.textContent = text;
  talk.append(part);
  return part;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const prompt = form.elements.prompt.value;
  const asked = await fetch("/questions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ prompt }),
  });
  const found = await asked.json();
  add("p", "question", prompt);
  if (!asked.ok) {
    add("p", "error", found.error);
    return;
  }
  form.reset();
  const stop = add("button", "stop", "Stop");
  stop.addEventListener("click", () => fetch(`/questions/${found.task}`, { method: "DELETE" }));
  const job = document.createElement("runpod-job"); // shows the answer as it comes
  job.addEventListener("runpod-end", () => stop.remove());
  job.setAttribute("task", found.task);
  stop.before(job);
});
