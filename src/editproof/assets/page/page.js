// The page around work.js: what was chosen goes to the worker, what comes back is shown and offered as a download.
"use strict";

const { settings, texts, files } = EDITPROOF;
const language = navigator.languages.map((name) => name.split("-")[0])[0];
const catalog = texts[language] ?? texts.en;
const at = (id) => document.getElementById(id);
const say = (key, values = {}) => catalog[key].replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

document.documentElement.lang = texts[language] ? language : "en";
for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text);
Object.assign(at("strength"), { min: settings.weakest, max: settings.strongest, value: settings.usual });
at("before").alt = say("before");
at("after").alt = say("after");
at("line").setAttribute("aria-label", say("slider"));

let chosen = null, busy = false, shown = [];
const worker = begin();

function begin() {
  const code = ["runtime", "work"].map((name) => bytes(files[name]));
  const worker = new Worker(URL.createObjectURL(new Blob([code[0], "\n", code[1]], { type: "text/javascript" })));
  worker.onmessage = ({ data }) => told(data);
  worker.onerror = (event) => told({ wrong: "page_failed", values: { error: event.message ?? "" } });
  worker.postMessage({ settings, wasm: bytes(files.wasm).buffer, mjs: bytes(files.mjs), network: bytes(files.network) });
  return worker;
}

function status(text, problem = false) {
  at("status").textContent = text;
  at("status").className = problem ? "problem" : "";
}

function told({ doing, wrong, values, png, largest }) {
  if (doing) return status(say(doing));
  busy = false;
  at("protect").disabled = chosen === null;
  if (wrong) return status(say(wrong, values), true);
  shown.forEach(URL.revokeObjectURL);
  shown = [chosen, png].map((blob) => URL.createObjectURL(blob));
  [at("before").src, at("after").src] = shown;
  const name = `${chosen.name.replace(/\.[^.]*$/, "")}-protected.png`;
  Object.assign(at("download"), { href: shown[1], download: name, textContent: say("download", { name }) });
  at("result").dataset.largest = largest;
  at("result").hidden = false;
  status(say("done_1"));
  at("download").focus();
}

function choose(file) {
  chosen = file ?? null;
  at("result").hidden = true;
  at("protect").disabled = busy || chosen === null;
  status("");
}

function level() {
  const number = settings.levels.filter((bound) => at("strength").value > bound).length + 1;
  at("level").textContent = say(`level_${number}`);
}

at("photo").addEventListener("change", ({ target }) => choose(target.files[0]));
at("strength").addEventListener("input", level);
at("line").addEventListener("input", ({ target }) => target.closest(".pair").style.setProperty("--at", `${target.value}%`));
at("protect").addEventListener("click", () => {
  busy = true;
  at("protect").disabled = true;
  at("result").hidden = true;
  status(say("page_reading"));
  worker.postMessage({ file: chosen, levels: Number(at("strength").value) });
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // a photo dropped beside the frame would leave the page
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind !== "drop" || busy || event.dataTransfer.files.length === 0) return;
    at("photo").files = event.dataTransfer.files;
    choose(event.dataTransfer.files[0]);
  });
}
level();
