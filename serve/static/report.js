// A report on the page. Everything that came from outside becomes text; nothing is ever parsed as HTML.

import { drawNoise, drawShares, drawTimeline, SHOWN } from "./charts.js";
import {
  capitalise, chunkTimes, clock, drivingTimes, fixed, howSure, interval, level, noiseSentence, notKnown, percent, POLICY_TITLES,
  pValue, safe, songName, useP,
} from "./words.js";

const TABLE_ROWS = 10;

const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

const cell = (text, className = "n") => element("td", { className }, text);

// A copy of a template, and its places by name.
const copyOf = (id) => {
  const copy = document.getElementById(id).content.cloneNode(true);
  const slots = {};
  for (const place of copy.querySelectorAll("[data-slot]")) slots[place.dataset.slot] = place;
  return [copy, slots];
};

// Show a report in `place`. Gives what is left to wire up: `{ audio, buttons, heading, redraw }`.
export const showReport = (place, report, fileName) => {
  const [copy, slots] = copyOf("report-template");
  const audio = copy.querySelector("audio");
  const { query, provenance } = report;
  const channels = ["P", "M"].filter((name) => name in report.channels);
  const searched = report.channels[channels[0]].searched;

  slots.name.textContent = safe(fileName);
  slots.facts.append(
    fact("Query", query.audio_sha256.slice(0, 12)),
    fact("Length", `${clock(query.duration_s)} in ${query.chunks.length} stretch${query.chunks.length === 1 ? "" : "es"}`),
    fact("Policy", POLICY_TITLES[report.policy.name]),
    fact("Catalog", `${searched} songs, index ${safe(provenance.index_version)}`),
  );
  slots.evidence.textContent = report.evidence;
  slots.qualifies.textContent = `${report.policy.qualifies}.`;
  slots["share-rule"].textContent = `${report.policy.share}.`;
  slots["use-term"].hidden = slots.use.hidden = !provenance.use;
  slots.interval.hidden = report.policy.published;
  slots["quoted-term"].hidden = slots.quoted.hidden = !report.policy.published;
  showProvenance(slots.provenance, report);
  audio.addEventListener("error", () => { audio.hidden = true; slots.unplayable.hidden = false; });

  const seek = (startS) => {
    audio.currentTime = startS;
    // Refused where the browser cannot play the file, which it has said by then.
    audio.play().catch(() => {});
  };
  const pictures = channels.map((name) => {
    const [article, drawings] = channelArticle(report, name, seek);
    slots.channels.append(article);
    return drawings;
  });

  const heading = copy.querySelector("#result-heading");
  place.replaceChildren(copy);
  place.hidden = false;
  let charts = [];
  const redraw = () => {
    charts.forEach((chart) => chart.destroy());
    charts = pictures.flatMap((drawings) => drawings());
  };
  redraw();
  return { audio, buttons: { json: slots.json, html: slots.html }, heading, redraw };
};

const fact = (name, value) => element("span", {}, `${name} `, element("b", {}, value));

const channelArticle = (report, name, seek) => {
  const [copy, slots] = copyOf("channel-template");
  const channel = report.channels[name];
  const article = copy.querySelector("article");
  article.classList.add(name);
  article.dataset.channel = name;
  article.setAttribute("aria-label", `${name}, ${channel.subject}`);

  slots.chip.textContent = name;
  slots.subject.textContent = capitalise(channel.subject);
  slots.right.textContent = `${channel.right} right`;
  slots.attributed.textContent = percent(channel.attributed);
  slots.attributed.parentElement.classList.toggle("none", channel.attributed === 0);
  const always = report.policy.published && channel.attributed > 0;
  slots.qualified.textContent =
    `attributed${always ? ": this rule always shares out everything" : ""} · ` +
    `${channel.qualified} of ${channel.searched} songs qualify`;
  slots.verdict.textContent = channel.verdict;
  slots.basis.textContent = channel.basis;
  slots.warnings.append(...channel.warnings.map((text) => element("p", { className: "warning" }, text)));

  const intervals = channel.candidates.some((c) => interval(c));
  slots["shares-hint"].textContent = intervals ? "A line in a bar: the share’s 95 % interval." : "";

  slots["not-known"].append(...notKnown(report, channel).map((text) => element("li", {}, text)));
  const best = channel.candidates[0];
  if (!best) {
    // All songs are withdrawn, or did not answer.
    copy.querySelectorAll("[data-of-candidates]").forEach((section) => section.remove());
    return [copy, () => [drawShares(slots.shares, channel)]];
  }
  slots["sure-of"].append(element("b", {}, songName(best.song)), `: ${level(report, best)}`);
  slots.sure.append(...howSure(report, channel, best).map((text) => element("li", {}, text)));
  slots["noise-sentence"].textContent = `${noiseSentence(channel)}.`;
  showStretches(slots, name, channel, report.query, seek);
  showCandidates(slots, name, channel, report);
  const drawings = () => [
    drawShares(slots.shares, channel),
    drawNoise(slots.noise, channel),
    drawTimeline(slots.timeline, channel, report.query, seek),
  ];
  return [copy, drawings];
};

const showStretches = (slots, name, channel, query, seek) => {
  const candidates = channel.candidates.slice(0, SHOWN);
  slots["stretches-region"].setAttribute("aria-label", `Stretches of the query, channel ${name}`);
  slots["stretches-head"].append(
    ...candidates.map((c) => element("th", { scope: "col", className: "n" }, songName(c.song))),
  );
  slots.stretches.append(
    ...query.chunks.map((chunk, i) => {
      const play = element("button", { type: "button", className: "link" }, chunkTimes(chunk));
      play.setAttribute("aria-label", `Play ${chunkTimes(chunk)}`);
      play.addEventListener("click", () => seek(chunk.start_s));
      const cells = candidates.map((c) => {
        const drives = c.qualified && c.driving_chunks.includes(i);
        return cell(fixed(c.chunk_similarities[i], 3) + (drives ? " drives it" : ""));
      });
      return element("tr", {}, element("th", { scope: "row" }, play), ...cells);
    }),
  );
};

const showCandidates = (slots, name, channel, report) => {
  slots["candidates-region"].setAttribute("aria-label", `Candidates of channel ${name}`);
  const rows = channel.candidates.slice(0, TABLE_ROWS).map((candidate) => {
    const { song } = candidate;
    const facts = [song.creator, song.song_id, song.isrc && `ISRC ${song.isrc}`, song.iswc && `ISWC ${song.iswc}`];
    const songCell = element(
      "th", { scope: "row" },
      element("div", { className: "title" }, songName(song)),
      element("div", { className: "sub" }, safe(facts.filter(Boolean).join(" · "))),
    );
    return element(
      "tr", { className: candidate.qualified ? "strong" : "weak" },
      songCell,
      element(
        "td", { className: "n" }, percent(candidate.share), element("div", { className: "sub" }, interval(candidate)),
      ),
      element(
        "td", { className: "n" }, fixed(candidate.similarity, 3),
        element("div", { className: "sub" }, `(${fixed(candidate.threshold, 3)})`),
      ),
      cell(pValue(candidate.family_wise_p, channel.noise.resolution)),
      cell(pValue(candidate.q_value)),
      element(
        "td", {}, element("div", { className: "level" }, level(report, candidate)),
        element("div", { className: "sub" }, drivingTimes(report.query.chunks, candidate)),
        element("div", { className: "sub" }, candidate.use ? `trained on it: p ${useP(report, candidate)}` : ""),
      ),
    );
  });
  const rest = element(
    "tr", { className: "rest" },
    element("th", { scope: "row" }, "Unattributed"), cell(percent(channel.unattributed)),
    element("td", { colSpan: 4 }),
  );
  slots.candidates.append(...rows, rest);
  const leftOut = channel.retrieved - rows.length;
  slots["left-out"].textContent =
    `* the smallest p that ${channel.noise.n_controls} controls can show.` +
    (leftOut > 0 ? ` ${leftOut} more candidates are in the JSON.` : "");
};

const showProvenance = (list, report) => {
  const { query, provenance } = report;
  const versions = (values) =>
    Object.entries(values).sort().map(([name, value]) => safe(`${name} ${value}`)).join(" · ");
  const rows = {
    Audio: query.audio_sha256,
    Codes: query.codes_sha256,
    "Model weights": provenance.weights_sha256,
    Specification: provenance.specification_sha256,
    Index: `${safe(provenance.index_version)} · ${provenance.index_key}`,
    Calibration: provenance.calibration_sha256,
    ...(provenance.use && {
      "Evidence of use": `reference ${provenance.use.reference_weights_sha256} · ${provenance.use.file_sha256}`,
    }),
    "Fingerprinted with": versions(provenance.environment),
    "Computed with": versions(provenance.software),
  };
  for (const [name, value] of Object.entries(rows))
    list.append(element("dt", {}, name), element("dd", { className: "mono" }, value));
};
