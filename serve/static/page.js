// Choose a file, send it, wait, show the report or what went wrong.

import { showReport } from "./report.js";
import { clock, safe } from "./words.js";

const $ = (id) => document.getElementById(id);
const KEY = "lumina.key";
const ASK_AGAIN_MS = 5000;

// What "Try again" sends.
let file = null;
let request = null;
let shown = null;
// Seconds of waiting for a second of audio, as the last answer took.
let rate = null;
let limits = null;

// ---- the server

const describeServer = async () => {
  const response = await fetch("readyz").catch(() => null);
  if (!response?.ok) {
    $("server").textContent = "The server is not ready to answer yet.";
    setTimeout(describeServer, ASK_AGAIN_MS);
    return;
  }
  const facts = await response.json();
  $("server").textContent = `${facts.songs} songs in index ${facts.index_version}, model ${facts.model}`;
  limits = facts;
  $("limits").textContent = `: up to ${megabytes(facts.max_upload_bytes)} and ${Number((facts.max_audio_s / 60).toFixed(1))} minutes`;
};

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MiB`;

const authorization = () => {
  const key = $("key").value.trim();
  return key ? { Authorization: `Bearer ${key}` } : {};
};

// ---- sending a file

const choose = (files) => {
  if (files.length !== 1) {
    showProblem({ title: "One file at a time", detail: `${files.length} were given; drop or choose one.` }, false);
    return;
  }
  file = files[0];
  send();
};

const send = () => {
  request?.abort();
  $("problem").hidden = true;
  $("result").hidden = true;
  if (limits && file.size > limits.max_upload_bytes) {
    const allowed = megabytes(limits.max_upload_bytes);
    showProblem({ title: "Upload too large", detail: `The file has ${megabytes(file.size)}, the server takes ${allowed}.` });
    return;
  }
  const sent = file;
  const audio = lengthOf(sent);
  const form = new FormData();
  form.append("audio", sent, "audio");
  // fetch() does not tell how far an upload is.
  request = new XMLHttpRequest();
  request.open("POST", "v1/attributions");
  request.responseType = "arraybuffer";
  for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
  const waiting = showProgress(sent, audio);
  request.upload.addEventListener("progress", (event) => waiting.uploaded(event.loaded / event.total));
  request.upload.addEventListener("load", () => waiting.analysing());
  request.addEventListener("load", (event) => {
    waiting.end();
    const tookS = waiting.analysedS();
    const { status, response } = event.target;
    if (status !== 200) {
      showProblem(problemOf(status, new TextDecoder().decode(response), event.target.getResponseHeader("Retry-After")));
      return;
    }
    // Not once it is known how long the audio is: a browser that preloads none never says.
    audio.then((durationS) => { if (durationS) rate = tookS / durationS; });
    showResult(sent, response);
  });
  request.addEventListener("error", () => {
    waiting.end();
    showProblem({ title: "The server cannot be reached", detail: "Nothing was answered. Is it running, and the network up?" });
  });
  request.addEventListener("abort", () => waiting.end());
  request.send(form);
};

// Seconds, or null where this browser cannot tell.
const lengthOf = (sent) =>
  new Promise((resolve) => {
    const probe = new Audio();
    const url = URL.createObjectURL(sent);
    const done = (seconds) => { URL.revokeObjectURL(url); resolve(seconds); };
    probe.addEventListener("loadedmetadata", () => done(Number.isFinite(probe.duration) ? probe.duration : null));
    probe.addEventListener("error", () => done(null));
    probe.src = url;
  });

// ---- waiting

const showProgress = (sent, audio) => {
  const began = performance.now();
  let analysisBegan = null;
  let durationS = null;
  audio.then((seconds) => { durationS = seconds; });
  const seconds = (since) => (performance.now() - since) / 1000;
  const tick = () => {
    const expectedS = rate && durationS ? rate * durationS : null;
    $("elapsed").textContent =
      `${clock(seconds(began))} elapsed. ` +
      (expectedS ? `At the speed of the last answer, the analysis takes about ${clock(Math.max(1, expectedS))}.`
        : "How long it takes is not known before this page’s first answer.");
    if (analysisBegan && expectedS) $("bar").value = Math.min(0.95, seconds(analysisBegan) / expectedS);
  };
  const timer = setInterval(tick, 250);
  $("progress").hidden = false;
  $("progress-file").textContent = `${safe(sent.name)}, ${megabytes(sent.size)}`;
  $("stage").textContent = "Sending the file";
  $("bar").value = 0;
  tick();
  return {
    uploaded: (part) => { if (!analysisBegan) $("bar").value = part; },
    analysing: () => {
      analysisBegan = performance.now();
      $("stage").textContent = "Sent. The server compares it with the catalog";
      $("bar").removeAttribute("value");
    },
    analysedS: () => seconds(analysisBegan),
    end: () => {
      clearInterval(timer);
      $("progress").hidden = true;
    },
  };
};

// ---- problems

const problemOf = (status, text, retryAfter) => {
  let problem;
  try {
    problem = JSON.parse(text);
  } catch {
    // Ray's own proxy answers in plain text.
    problem = { title: status === 429 ? "Too many requests" : `The server answered ${status}`, detail: text.slice(0, 300) };
  }
  const later = retryAfter ? ` Try again in ${retryAfter} seconds.` : "";
  return { ...problem, detail: `${problem.detail ?? ""}${later}`, status };
};

const showProblem = ({ title, detail, code, status }, repeatable = true) => {
  $("problem-title").textContent = title;
  $("problem-detail").textContent = detail;
  $("problem-code").textContent = code ? `For support: ${code}` : "";
  $("again").hidden = !(repeatable && file);
  $("problem").hidden = false;
  if (status === 401 || status === 403) {
    $("key-details").open = true;
    $("key").focus();
  }
};

// ---- the result

const showResult = (sent, bytes) => {
  let report;
  try {
    report = JSON.parse(new TextDecoder().decode(bytes));
    if (report.format_version !== 1) throw new Error(`format ${report.format_version}`);
    if (shown) URL.revokeObjectURL(shown.audio.src);
    shown = showReport($("result"), report, sent.name);
  } catch (error) {
    showProblem({ title: "An answer that this page cannot show", detail: `${error}` });
    throw error;
  }
  shown.audio.src = URL.createObjectURL(sent);
  const stem = `attribution-${report.query.audio_sha256.slice(0, 12)}`;
  shown.buttons.json.addEventListener("click", () => save(bytes, "application/json", `${stem}.json`));
  shown.buttons.html.addEventListener("click", () => saveHtml(bytes, `${stem}.html`));
  shown.heading.focus();
};

const saveHtml = async (bytes, name) => {
  $("problem").hidden = true;
  const headers = { "Content-Type": "application/json", ...authorization() };
  try {
    const response = await fetch("v1/reports/html", { method: "POST", headers, body: bytes });
    if (response.ok) save(await response.arrayBuffer(), "text/html", name);
    else showProblem(problemOf(response.status, await response.text(), response.headers.get("Retry-After")), false);
  } catch {
    showProblem({ title: "The server cannot be reached", detail: "The page could not be made." }, false);
  }
};

const save = (bytes, type, name) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type }));
  link.download = name;
  link.click();
  // Later: the browser reads it after this.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
};

// ---- wiring

$("key").value = sessionStorage.getItem(KEY) ?? "";
$("key").addEventListener("input", () => sessionStorage.setItem(KEY, $("key").value.trim()));
$("file").addEventListener("change", (event) => {
  choose([...event.target.files]);
  // So that choosing the same file again is a change.
  event.target.value = "";
});
$("cancel").addEventListener("click", () => { request.abort(); $("file").focus(); });
$("again").addEventListener("click", send);

// Anywhere: a file that misses a small target would replace the page.
addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  choose([...event.dataTransfer.files]);
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown?.redraw());
describeServer();
