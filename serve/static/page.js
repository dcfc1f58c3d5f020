// Choose a file, send it, wait, show the report or what went wrong. The server draws the report.

const $ = (id) => document.getElementById(id);
const KEY = "lumina.key";
const ASK_AGAIN_MS = 5000;
const NO_KEY = "Enter your key under “API key”, and try again. If you have none, ask whoever runs this server for one.";

// The file that "Try again" sends.
let file = null;
let request = null;
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
  $("confirm").hidden = !facts.confirms;
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
  forgetting?.abort();
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
  const upload = new XMLHttpRequest();
  const drawing = new AbortController();
  upload.open("POST", "v1/attributions");
  upload.responseType = "arraybuffer";
  for (const [name, value] of Object.entries(authorization())) upload.setRequestHeader(name, value);
  const waiting = showProgress(sent, audio);
  request = { abort: () => { upload.abort(); drawing.abort(); waiting.end(); } };
  upload.upload.addEventListener("progress", (event) => waiting.uploaded(event.loaded / event.total));
  upload.upload.addEventListener("load", () => waiting.analysing());
  upload.addEventListener("load", async () => {
    const tookS = waiting.analysedS();
    const { status, response } = upload;
    if (status !== 200) {
      waiting.end();
      showProblem(problemOf(status, new TextDecoder().decode(response), upload.getResponseHeader("Retry-After")));
      return;
    }
    // Not once it is known how long the audio is: a browser that preloads none never says.
    audio.then((durationS) => { if (durationS) rate = tookS / durationS; });
    waiting.drawing();
    const drawn = await draw(response, drawing.signal);
    if (drawing.signal.aborted) return;
    waiting.end();
    showResult(sent, response, drawn);
  });
  upload.addEventListener("error", () => {
    waiting.end();
    showProblem({ title: "The server cannot be reached", detail: "Nothing was answered. Is it running, and the network up?" });
  });
  upload.send(form);
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
    drawing: () => { $("stage").textContent = "Answered. The server draws the report"; },
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
  $("problem-detail").textContent = status === 401 ? `${detail} ${NO_KEY}` : detail;
  $("problem-code").textContent = code ? `For support: ${code}` : "";
  $("again").hidden = !(repeatable && file);
  $("problem").hidden = false;
  if (status === 401 || status === 403) {
    $("key-details").open = true;
    $("key").focus();
  }
};

// ---- the result

// The report as the page that the server makes of it: `{ html }`, or `{ problem }`.
const draw = async (bytes, signal) => {
  const headers = { "Content-Type": "application/json", ...authorization() };
  try {
    const response = await fetch("v1/reports/html", { method: "POST", headers, body: bytes, signal });
    if (response.ok) return { html: await response.arrayBuffer() };
    return { problem: problemOf(response.status, await response.text(), response.headers.get("Retry-After")) };
  } catch {
    return { problem: { title: "The server cannot be reached", detail: "The report could not be drawn." } };
  }
};

const showResult = (sent, bytes, { html, problem }) => {
  let stem;
  try {
    stem = `attribution-${JSON.parse(new TextDecoder().decode(bytes)).query.audio_sha256.slice(0, 12)}`;
  } catch (error) {
    showProblem({ title: "An answer that this page cannot show", detail: `${error}` });
    return;
  }
  $("result-name").textContent = safe(sent.name);
  URL.revokeObjectURL($("audio").src);
  $("audio").src = URL.createObjectURL(sent);
  $("audio").hidden = false;
  $("unplayable").hidden = true;
  $("json").onclick = () => save(bytes, "application/json", `${stem}.json`);
  $("html").onclick = () => save(html, "text/html", `${stem}.html`);
  $("confirm").onclick = () => confirmByForgetting(sent);
  $("confirm").disabled = false;
  $("confirmation").hidden = true;
  // A report that cannot be drawn can still be saved.
  $("html").hidden = $("report").hidden = !html;
  if (problem) showProblem(problem, false);
  shown = html ? new TextDecoder().decode(html) : null;
  $("result").hidden = false;
  $("result-heading").focus();
  // Now the frame has its width.
  showInFrame();
};

// ---- confirming the result

let forgetting = null;
const confirmByForgetting = async (sent) => {
  const began = performance.now();
  const running = (forgetting = new AbortController());
  const say = (text) => { $("confirmation-said").textContent = text; };
  const tick = () => say(`The model forgets this music, and compares the songs. ${clock((performance.now() - began) / 1000)}`);
  const timer = setInterval(tick, 1000);
  const body = new FormData();
  body.append("audio", sent, "audio");
  tick();
  $("confirm").disabled = true;
  $("confirmation-tables").replaceChildren();
  $("confirmation").hidden = false;
  try {
    const asked = { method: "POST", headers: authorization(), body, signal: running.signal };
    const response = await fetch("v1/attributions?confirm=unlearn", asked);
    const text = await response.text();
    if (response.ok) {
      const [report, confirmation] = text.split("\n").slice(0, 2).map((line) => JSON.parse(line));
      $("confirmation-tables").replaceChildren(...confirmationTables(report, confirmation));
      say(`The model was made to forget this music until its loss rose by ${confirmation.rise_nats.toFixed(4)} nats per code. An effect is how far a song’s loss rose with it: an approximation of training without this music, and no proof.`);
    } else {
      const { title, detail } = problemOf(response.status, text, response.headers.get("Retry-After"));
      say(`${title}: ${detail}`);
    }
  } catch (error) {
    if (!running.signal.aborted) say(`The server cannot be reached, or its answer cannot be read: ${error}`);
  } finally {
    clearInterval(timer);
    // Of another file by now, where this one was aborted.
    if (!running.signal.aborted) $("confirm").disabled = false;
  }
};

const confirmationTables = (report, { songs, n_random: random, random_mean_nats: means, random_sd_nats: spreads }) =>
  Object.keys(means).sort().reverse().flatMap((channel) => {
    const micro = (nats) => (nats === null ? "–" : (1e6 * nats).toFixed(1));
    const ofChannel = songs.filter((song) => song.channel === channel);
    const facts = new Map(report.near_copies[channel].candidates.map(({ song }) => [song.song_id, song]));
    const rows = ofChannel.map((song) => [
      `${song.listed_rank}`,
      safe(facts.get(song.song_id)?.title ?? song.song_id),
      `${song.rank} of ${ofChannel.length + random}`,
      micro(song.effect_nats),
      micro(song.noise_nats),
      song.p_value.toFixed(3),
    ]);
    const caption = `${channel === "P" ? "Composition" : "Production"}: ${random} random songs, ${micro(means[channel])} µnat in the mean, SD ${micro(spreads[channel])}`;
    return table(caption, ["listed", "song", "by forgetting", "effect, µnat", "noise, µnat", "p"], rows);
  });

const table = (caption, headings, rows) => {
  const made = (tag, ...children) => {
    const node = document.createElement(tag);
    node.append(...children);
    return node;
  };
  const scrolled = made("div", made(
    "table",
    made("caption", caption),
    made("thead", made("tr", ...headings.map((heading) => made("th", heading)))),
    made("tbody", ...rows.map((row) => made("tr", ...row.map((cell) => made("td", cell))))),
  ));
  scrolled.className = "scroll";
  // Wider than a phone: the keyboard must be able to scroll it.
  scrolled.tabIndex = 0;
  scrolled.setAttribute("role", "region");
  scrolled.setAttribute("aria-label", caption);
  return scrolled;
};

// The report's text has no rights here: it is shown in a frame of another origin, frame.html.
let shown = null;
let frameIsReady = false;
const showInFrame = () => {
  if (shown && frameIsReady) $("report").contentWindow.postMessage({ html: shown }, "*");
};

const hear = (startS) => {
  $("audio").currentTime = startS;
  // Refused where the browser cannot play the file, which it has said by then.
  $("audio").play().catch(() => {});
};

addEventListener("message", ({ source, data }) => {
  if (source !== $("report").contentWindow) return;
  if (data?.ready) {
    frameIsReady = true;
    showInFrame();
  }
  if (data?.height) $("report").style.height = `${data.height}px`;
  if (data?.startS !== undefined) hear(data.startS);
  if (Array.isArray(data?.files) && data.files.every((given) => given instanceof File)) choose(data.files);
});

const save = (bytes, type, name) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type }));
  link.download = name;
  link.click();
  // Later: the browser reads it after this.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
};

// ---- words

// Text from outside without what could change the direction of reading or hide.
const safe = (text) => text.replace(/[^\P{C}\u200c\u200d]|[\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu, "\ufffd");

const clock = (seconds) => {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};

// ---- wiring

$("key").value = sessionStorage.getItem(KEY) ?? "";
$("key-details").open = document.body.dataset.access === "keys" && !$("key").value;
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

$("audio").addEventListener("error", () => {
  $("audio").hidden = true;
  $("unplayable").hidden = false;
});
// Not in the page's text: its first message must find the listener above.
$("report").src = "static/frame.html";
describeServer();
