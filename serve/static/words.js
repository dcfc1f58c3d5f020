// How numbers and names are written for people: the same as lumina_ray/report/words.py, which a test compares it with.

export const POLICY_TITLES = {
  calibrated: "calibrated (lumina-ray)",
  v8: "v8 (published, not proven)",
  v7: "v7 (published, not proven)",
};

// Text from outside without what could change the direction of reading or hide.
export const safe = (text) => text.replace(/[^\P{C}\u200c\u200d]|[\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu, "\ufffd");

export const shorten = (text, length) => {
  const letters = [...text];
  return letters.length <= length ? text : letters.slice(0, length - 1).join("").trimEnd() + "…";
};

export const songName = (song) => safe(song.title || song.song_id);

export const capitalise = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// Exact halves, odd multiples of 1 / 2 ** (digits + 1), to the even digit, as Python rounds: toFixed takes them up.
export const fixed = (number, digits) => {
  const half = Math.abs(number * 2 ** (digits + 1)) % 2 === 1;
  const up = number.toFixed(digits);
  return half && up.at(-1) % 2 ? (number * (1 - 1e-9)).toFixed(digits) : up;
};

export const percent = (part) => (part > 0 && part < 0.001 ? "< 0.1%" : `${fixed(100 * part, 1)}%`);

// The share's interval in brackets, where there is one.
export const interval = ({ qualified, share_low: low, share_high: high }) =>
  qualified && low !== null && high !== null ? `(${fixed(100 * low, 0)}–${fixed(100 * high, 0)}%)` : "";

export const share = (candidate) => `${percent(candidate.share)} ${interval(candidate)}`.trimEnd();

// With a star where the value is the smallest that the controls can show.
export const pValue = (p, resolution = 0) =>
  (p >= 0.001 ? fixed(p, 3) : p.toExponential(0).replace(/([+-])(\d)$/, "$10$2")) + (p <= resolution ? "*" : "");

// Names that the published rules give are quoted: they are names, not findings.
export const level = (report, candidate) =>
  report.policy.published && candidate.qualified ? `“${candidate.level}”` : candidate.level;

export const clock = (seconds) => {
  const whole = Number(fixed(seconds, 0));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};

export const chunkTimes = (chunk) => `${clock(chunk.start_s)}–${clock(chunk.start_s + chunk.duration_s)}`;

// Where in the query the match lies, adjoining chunks joined: `0:10–0:30, 1:00–1:10`.
export const drivingTimes = (chunks, candidate, most = 3) => {
  const spans = [];
  for (const i of [...candidate.driving_chunks].sort((a, b) => a - b)) {
    const start = chunks[i].start_s;
    const end = start + chunks[i].duration_s;
    if (spans.length && start - spans.at(-1)[1] < 0.5) spans.at(-1)[1] = end;
    else spans.push([start, end]);
  }
  const times = spans.slice(0, most).map(([start, end]) => `${clock(start)}–${clock(end)}`);
  return times.join(", ") + (spans.length > most ? ` +${spans.length - most}` : "");
};

export const noiseSentence = (channel) => {
  const noise = channel.noise;
  const maxima = noise.control_maxima_similarity;
  return (
    `Noise from ${noise.n_controls} control tracks × ${channel.searched} songs: μ ${fixed(noise.mean, 3)}, ` +
    `σ ${fixed(noise.std, 3)}; best match of a control ${fixed(maxima.at(-1), 3)} to ${fixed(maxima[0], 3)}`
  );
};

// The p-value of the evidence of use; a dash where there is none.
export const useP = (report, candidate) =>
  candidate.use && report.provenance.use ? pValue(candidate.use.p_value, report.provenance.use.resolution) : "–";

// What a candidate's p- and q-values mean, one sentence each.
export const howSure = (report, channel, candidate) => {
  const { n_controls, resolution } = channel.noise;
  const least = candidate.family_wise_p <= resolution ? `, the least that ${n_controls} controls can show` : "";
  const sentences = [
    `p ${pValue(candidate.family_wise_p)}: of ${n_controls} controls and this query, ` +
      `${percent(candidate.family_wise_p)} find a best match in the whole catalog that is at least as good${least}.`,
    `q ${pValue(candidate.q_value)}: of a list of songs that goes down to this one, ` +
      `${percent(candidate.q_value)} would be chance finds.`,
  ];
  if (candidate.p_extrapolated !== null && candidate.p_extrapolated < candidate.family_wise_p)
    sentences.push(
      `A tail fitted beyond the controls guesses p ${pValue(candidate.p_extrapolated)}. ` +
        "That is an extrapolation and qualifies nothing.",
    );
  if (candidate.use && report.provenance.use) {
    const { n_controls: controls, resolution: smallest } = report.provenance.use;
    const floor = candidate.use.p_value <= smallest ? `, the least that ${controls} controls can show` : "";
    sentences.push(
      `Use, p ${pValue(candidate.use.p_value)}: of ${controls} controls that the model never saw and this song, ` +
        `${percent(candidate.use.p_value)} are at least as likely to it, beyond what a reference model finds${floor}.`,
    );
  }
  if (candidate.confidence !== null)
    sentences.push(
      `The published rule calls this a confidence of ${percent(candidate.confidence)} ` +
        `and a LIP of ${fixed(candidate.lip_percent, 1)}%.`,
    );
  return sentences;
};

// What the channel's numbers leave open, one sentence each; the report's own warnings come apart.
export const notKnown = (report, channel) => {
  const { n_controls, resolution, expected_false_positives: chance } = channel.noise;
  const facts = [
    `How rare the best match is beyond p ${pValue(resolution)}: ${n_controls} controls cannot show more.`,
    report.policy.published
      ? `Which finds are chance: this rule qualifies ${fixed(chance, 1)} songs of this catalog for an unrelated track, ` +
        "on average."
      : `Whether a find is one of the chance ones: ${percent(chance)} of unrelated tracks have a song qualify.`,
    report.provenance.use
      ? "Whether the model made use of any of these songs for this music: evidence of use is that it was trained on them."
      : "Whether the model used any of these songs: only likeness is measured.",
  ];
  if (channel.unattributed > 0)
    facts.unshift(
      `Where ${percent(channel.unattributed)} of the query’s fingerprint comes from: it is attributed to no song.`,
    );
  return facts;
};
