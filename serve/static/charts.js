// The three pictures of a channel, drawn by Chart.js. Each has words for who cannot see it, and a table with its numbers.

import { chunkTimes, clock, fixed, percent, share, shorten, songName } from "./words.js";

const Chart = window.Chart;
Chart.defaults.animation = false;
Chart.defaults.maintainAspectRatio = false;
Chart.defaults.font.family = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
Chart.defaults.plugins.legend.display = false;
Chart.defaults.plugins.tooltip.displayColors = false;

// Rows in a picture, and the songs that have a share of their own in it.
export const SHOWN = 8;
const SHARED = 6;
const ROW_PX = 30;
const LABELS_PX = 150;
const LETTERS = 18;

const alpha = (colour, part) => {
  const byte = Math.round(255 * Math.min(1, Math.max(0, part)));
  return colour + byte.toString(16).padStart(2, "0");
};

// The page's colours as they are now, each `#rrggbb`.
const coloursOf = (canvas) => {
  const style = getComputedStyle(canvas);
  const colour = (name) => style.getPropertyValue(name).trim();
  return {
    ink: colour("--ink"), muted: colour("--muted"), line: colour("--line"), noise: colour("--noise"),
    accent: colour(canvas.closest(".M") ? "--m" : "--p"),
  };
};

const draw = (canvas, heightPx, words, config) => {
  canvas.parentElement.style.height = `${heightPx}px`;
  canvas.setAttribute("aria-label", words);
  return new Chart(canvas, config);
};

const rowAxis = (colours, labels, emphasised) => ({
  type: "category",
  labels,
  grid: { display: false },
  border: { display: false },
  afterFit: (scale) => { scale.width = LABELS_PX; },
  ticks: { autoSkip: false, color: (tick) => (emphasised[tick.index] ? colours.ink : colours.muted) },
});

const valueAxis = (colours, title, ticks = {}) => ({
  type: "linear",
  grid: { color: colours.line, drawTicks: false },
  border: { display: false },
  title: { display: Boolean(title), text: title, color: colours.muted },
  ticks: { color: colours.muted, maxRotation: 0, includeBounds: false, ...ticks },
});

// Shares as bars, their intervals as lines in them; the last bar is what nobody gets.
export const drawShares = (canvas, channel) => {
  const colours = coloursOf(canvas);
  const shared = channel.candidates.filter((c) => c.share > 0);
  const others = shared.slice(SHARED);
  const rows = shared.slice(0, SHARED).map((c) => ({
    name: songName(c.song), text: share(c), value: c.share, colour: colours.accent,
    interval: c.share_low === null ? null : [c.share_low, c.share_high],
  }));
  if (others.length) {
    const value = others.reduce((sum, c) => sum + c.share, 0);
    rows.push({ name: `${others.length} more songs`, text: percent(value), value, colour: alpha(colours.accent, 0.5) });
  }
  const rest = channel.unattributed;
  rows.push({ name: "Unattributed", text: percent(rest), value: rest, colour: alpha(colours.noise, 0.45) });
  return draw(
    canvas,
    rows.length * 44 + 30,
    `Shares: ${rows.map((row) => `${row.name} ${row.text}`).join(", ")}.`,
    {
      type: "bar",
      data: {
        datasets: [
          { data: rows.map((row) => row.interval ?? null), backgroundColor: colours.ink, barThickness: 3, grouped: false },
          {
            data: rows.map((row) => row.value), backgroundColor: rows.map((row) => row.colour), borderRadius: 4,
            barThickness: 24, grouped: false,
          },
        ],
      },
      options: {
        indexAxis: "y",
        scales: {
          x: { ...valueAxis(colours, "", { stepSize: 0.25, includeBounds: true, callback: (part) => `${100 * part}%` }), min: 0, max: 1 },
          y: rowAxis(colours, rows.map((row) => [shorten(row.name, LETTERS), row.text]), rows.map(() => true)),
        },
        plugins: {
          tooltip: {
            callbacks: { title: ([item]) => rows[item.dataIndex].name, label: (item) => rows[item.dataIndex].text },
          },
        },
      },
    },
  );
};

// Each control's best match above, the candidates below, on one axis of similarity.
export const drawNoise = (canvas, channel) => {
  const colours = coloursOf(canvas);
  const candidates = channel.candidates.slice(0, SHOWN);
  const { noise } = channel;
  const { mean, std } = noise;
  const maxima = noise.control_maxima_similarity;
  const values = candidates.flatMap((c) => [c.similarity, c.threshold]);
  const low = Math.min(mean - 3 * std, ...values);
  const high = Math.max(mean + 3 * std, maxima[0], ...values);
  const margin = 0.04 * (high - low);

  const stacked = new Map();
  const dots = maxima.map((similarity) => {
    const bin = Math.floor((60 * (similarity - low)) / (high - low));
    stacked.set(bin, (stacked.get(bin) ?? 0) + 1);
    return { x: low + ((bin + 0.5) * (high - low)) / 60, height: stacked.get(bin) };
  });
  const stepRows = Math.min(0.2, 2.4 / Math.max(...stacked.values()));
  const top = -3.3;
  const bottom = candidates.length - 0.5;

  const column = (from, to) => [[from, top], [to, top], [to, bottom], [from, bottom]].map(([x, y]) => ({ x, y }));
  const bands = [[3, 0.1], [2, 0.14], [1, 0.2]].map(([sigmas, part]) => ({
    type: "line", data: column(mean - sigmas * std, mean + sigmas * std), fill: "shape", pointRadius: 0, borderWidth: 0,
    backgroundColor: alpha(colours.noise, part), order: 9,
  }));
  const colour = (c) => (c.qualified ? colours.accent : alpha(colours.muted, 0.65));
  const stems = candidates.map((c, row) => ({
    type: "line", data: [{ x: c.threshold, y: row }, { x: c.similarity, y: row }], pointRadius: 0, borderWidth: 1.5,
    borderColor: colour(c), order: 3,
  }));
  // The outer names only where they have room beside μ's.
  const named = (scale) => {
    const roomy = (scale.chart.width - LABELS_PX) * 3 * std > 26 * (high - low);
    return roomy ? { "−3σ": mean - 3 * std, μ: mean, "+3σ": mean + 3 * std } : { μ: mean };
  };
  const best = candidates[0];
  return draw(
    canvas,
    (bottom - top) * ROW_PX + 76,
    `Similarity to catalog songs. Noise of ${noise.n_controls} controls: mean ${fixed(mean, 3)}, standard deviation ` +
      `${fixed(std, 3)}; their best matches lie between ${fixed(maxima.at(-1), 3)} and ${fixed(maxima[0], 3)}. ` +
      `First candidate: ${songName(best.song)} at ${fixed(best.similarity, 3)}, its threshold ` +
      `${fixed(best.threshold, 3)}. The candidates’ table has the numbers.`,
    {
      type: "scatter",
      data: {
        datasets: [
          ...bands,
          { type: "line", data: column(mean, mean), borderColor: colours.noise, borderWidth: 1, pointRadius: 0, order: 8 },
          {
            data: dots.map((dot) => ({ x: dot.x, y: -0.7 - stepRows * dot.height })), pointRadius: 2.2,
            backgroundColor: colours.muted, borderWidth: 0, order: 4,
          },
          ...stems,
          {
            data: candidates.map((c, row) => ({ x: c.threshold, y: row })), pointStyle: "line", rotation: 90,
            pointRadius: 8, pointHoverRadius: 8, borderColor: colours.ink, borderWidth: 1.5, order: 2,
          },
          {
            label: "similarity", data: candidates.map((c, row) => ({ x: c.similarity, y: row })), pointRadius: 5.5,
            backgroundColor: candidates.map(colour), borderWidth: 0, order: 1,
          },
        ],
      },
      options: {
        scales: {
          x: { ...valueAxis(colours, "similarity"), min: low - margin, max: high + margin },
          sigmas: {
            ...valueAxis(colours, "", { autoSkip: false }),
            position: "top", grid: { display: false }, min: low - margin, max: high + margin,
            afterBuildTicks: (scale) => { scale.ticks = Object.values(named(scale)).map((value) => ({ value })); },
            afterTickToLabelConversion: (scale) => {
              Object.keys(named(scale)).forEach((label, i) => { scale.ticks[i].label = label; });
            },
          },
          y: {
            ...rowAxis(colours, [], [false, ...candidates.map((c) => c.qualified)]),
            type: "linear", reverse: true, min: top, max: bottom,
            afterBuildTicks: (scale) => {
              scale.ticks = [(top - 0.7) / 2, ...candidates.keys()].map((value) => ({ value }));
            },
            ticks: {
              autoSkip: false,
              color: (tick) => (tick.index > 0 && candidates[tick.index - 1].qualified ? colours.ink : colours.muted),
              callback: (_, i) =>
                i === 0 ? ["controls’", "best matches"] : shorten(songName(candidates[i - 1].song), LETTERS),
            },
          },
        },
        plugins: {
          tooltip: {
            filter: (item) => item.dataset.label === "similarity",
            callbacks: {
              title: (items) => items.map((item) => songName(candidates[item.dataIndex].song)),
              label: (item) => {
                const c = candidates[item.dataIndex];
                return `similarity ${fixed(c.similarity, 3)}, needed ${fixed(c.threshold, 3)}, z ${fixed(c.z, 1)}`;
              },
            },
          },
        },
      },
    },
  );
};

// Chunks of the query against candidates. `seek` gets the second at which a chunk that was clicked starts.
export const drawTimeline = (canvas, channel, query, seek) => {
  const colours = coloursOf(canvas);
  const candidates = channel.candidates.slice(0, SHOWN);
  const floor = channel.noise.mean;
  // Full colour is for what could qualify: the strongest of mere noise stays pale.
  const top = Math.max(
    floor + 1e-9, Math.min(...candidates.map((c) => c.threshold)), ...candidates.flatMap((c) => c.chunk_similarities),
  );
  const strength = (c, i) => (c.chunk_similarities[i] - floor) / (top - floor);
  const drives = (c, i) => c.qualified && c.driving_chunks.includes(i);
  const stepS = [5, 10, 20, 30, 60, 120, 300].find((s) => query.duration_s / s <= 8) ?? 600;
  const best = candidates[0];
  const closest = best.chunk_similarities.indexOf(Math.max(...best.chunk_similarities));
  return draw(
    canvas,
    candidates.length * ROW_PX + 50,
    `Similarity of ${query.chunks.length} stretches of the query to ${candidates.length} candidates. The first, ` +
      `${songName(best.song)}, is closest at ${clock(query.chunks[closest].start_s)} ` +
      `(${fixed(best.chunk_similarities[closest], 3)}). The table below has the numbers.`,
    {
      type: "bar",
      data: {
        datasets: query.chunks.map((chunk, i) => ({
          data: candidates.map(() => [chunk.start_s, chunk.start_s + chunk.duration_s]),
          backgroundColor: candidates.map((c) =>
            strength(c, i) > 0.12 ? alpha(colours.accent, strength(c, i)) : alpha(colours.noise, 0.12)),
          borderColor: candidates.map((c) => (drives(c, i) ? colours.ink : "transparent")),
          borderWidth: 1.5, borderSkipped: false, grouped: false, categoryPercentage: 1, barPercentage: 0.86,
        })),
      },
      options: {
        indexAxis: "y",
        onClick: (_, [cell]) => { if (cell) seek(query.chunks[cell.datasetIndex].start_s); },
        onHover: (event, [cell]) => { event.native.target.style.cursor = cell ? "pointer" : "default"; },
        scales: {
          x: {
            ...valueAxis(colours, "time in the query (min:s)", { stepSize: stepS, callback: (value) => clock(value) }),
            min: 0, max: query.duration_s, grid: { display: false },
          },
          y: rowAxis(
            colours, candidates.map((c) => shorten(songName(c.song), LETTERS)), candidates.map((c) => c.qualified),
          ),
        },
        plugins: {
          tooltip: {
            callbacks: {
              title: ([item]) => songName(candidates[item.dataIndex].song),
              label: (item) => {
                const similarity = candidates[item.dataIndex].chunk_similarities[item.datasetIndex];
                return `${chunkTimes(query.chunks[item.datasetIndex])}: similarity ${fixed(similarity, 3)}`;
              },
            },
          },
        },
      },
    },
  );
};
