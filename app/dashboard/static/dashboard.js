// What pages do by themselves: parts that are fetched anew, one switch that pauses them all, charts drawn from the
// tables beside them. Every page can be read and every form sent without it.
"use strict";

(() => {
  const PAUSED = "lastro-paused";
  const pause = document.getElementById("pause");
  const connection = document.getElementById("connection");
  const latest = new Map();
  let opened = [];

  // On a phone the names of the pages do not fit: this one's is brought into sight. Not by scrollIntoView, from
  // where some browsers let the Tab key go on, past everything before it.
  const here = document.querySelector(".pages [aria-current]");
  const names = here?.closest(".pages");
  if (names) {
    const [its, all] = [here.getBoundingClientRect(), names.getBoundingClientRect()];
    names.scrollLeft += its.left + its.width / 2 - (all.left + all.width / 2);
  }

  // Sign-in tells the browser's time zone.
  for (const field of document.querySelectorAll("[data-zone]")) {
    field.value = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
  }

  // A form is sent once; the ledger would do it once, too.
  document.addEventListener("submit", (event) => {
    setTimeout(() => {
      for (const button of event.target.querySelectorAll("button:not(.quiet)")) button.disabled = true;
    });
  });
  addEventListener("pageshow", () => {
    for (const button of document.querySelectorAll("button[disabled]")) button.disabled = false;
  });

  // One switch for all that is live, remembered while the tab is open.
  const isPaused = () => sessionStorage.getItem(PAUSED) === "yes";
  const show = () => {
    pause.setAttribute("aria-pressed", String(isPaused()));
    pause.textContent = isPaused() ? "Paused" : "Pause";
    pause.title = isPaused() ? "Numbers stand still. Press to go on." : "Let numbers stand still";
  };
  if (pause) {
    pause.hidden = document.querySelector(".live") === null;
    pause.addEventListener("click", () => {
      sessionStorage.setItem(PAUSED, isPaused() ? "no" : "yes");
      show();
    });
    show();
  }

  const isLive = (element) => element.classList.contains("live");
  const isBusy = (element) =>
    element.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (isLive(event.target) && (isPaused() || document.hidden || isBusy(event.target))) event.preventDefault();
  });

  // What has not changed stays as it is, and with it whatever somebody has marked, opened or reached in it.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const part = event.detail.target;
    if (!part || !isLive(part)) return;
    connection.textContent = "";
    const found = new DOMParser().parseFromString(event.detail.serverResponse, "text/html").getElementById(part.id);
    if (!found || isPaused() || latest.get(part.id) === found.innerHTML) {
      event.detail.shouldSwap = false;
      return;
    }
    latest.set(part.id, found.innerHTML);
    opened = [...part.querySelectorAll("details[open][id]")].map((each) => each.id);
  });

  const failed = (event) => {
    if (!isLive(event.target)) return;
    const status = event.detail.xhr ? event.detail.xhr.status : 0;
    connection.textContent = status ? `The last answer was ${status}; trying again` : "No answer; trying again";
  };
  document.addEventListener("htmx:responseError", failed);
  document.addEventListener("htmx:sendError", failed);
  document.addEventListener("htmx:timeout", failed);

  // Charts. A figure has a table: its first column has the steps (data-at, in seconds), and columns whose head has
  // data-series are series, with the numbers in the data-value of their cells. A series has the colour of its entry
  // in the key.
  const drawn = new Map();
  const colour = (element) => getComputedStyle(element).color;
  const dot = (element) => getComputedStyle(element, "::before").backgroundColor;

  const read = (figure) => {
    const rows = [...figure.querySelectorAll("tbody tr")].filter((row) => row.querySelector("[data-value]"));
    const at = rows.map((row) => Number(row.querySelector("[data-at]").dataset.at));
    const names = [...figure.querySelectorAll("thead th[data-series]")].map((each) => each.textContent.trim());
    const series = names.map((_, index) =>
      rows.map((row) => Number(row.querySelectorAll("[data-value]")[index].dataset.value)),
    );
    return { at, names, series };
  };

  const draw = (figure) => {
    const place = figure.querySelector(".plot");
    const { at, names, series } = read(figure);
    if (!window.uPlot || at.length < 2) return;
    drawn.get(figure.dataset.chart)?.destroy();
    figure.classList.add("drawn");
    const ink = colour(figure.querySelector("figcaption"));
    const line = getComputedStyle(figure).borderTopColor;
    const dots = [...figure.querySelectorAll(".key li")].map(dot);
    const zone = figure.dataset.zone;
    // A sum holds for the whole of its step: it is drawn as a level, of which the last needs an end.
    const end = at.at(-1) + (at.at(-1) - at.at(-2));
    const paths = uPlot.paths.stepped({ align: 1 });
    const moment = uPlot.fmtDate("{YYYY}-{MM}-{DD} {HH}:{mm}");
    const here = (seconds) => uPlot.tzDate(new Date(seconds * 1000), zone);
    const number = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
    const whole = new Intl.NumberFormat("en");
    const day = "\n{D} {MMM}";
    const times = [
      [31536000, "{YYYY}", null, null, null, null, null, null, 1],
      [2419200, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
      [86400, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
      [60, "{HH}:{mm}", day, null, day, null, null, null, 1],
    ];
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    drawn.set(
      figure.dataset.chart,
      new uPlot(
        {
          width: place.clientWidth,
          height: place.clientHeight - 28,
          tzDate: here,
          cursor: { drag: { x: false, y: false }, points: { size: 7 } },
          legend: { markers: { fill: (_, index) => dots[index - 1] } },
          scales: { y: { range: (_, low, high) => [Math.min(0, low), Math.max(1, high * 1.05)] } },
          axes: [{ ...axis, values: times }, { ...axis, size: 56, values: (_, values) => values.map((each) => number.format(each)) }],
          series: [
            { label: "\u00a0", value: (_, value) => (value === null ? "" : moment(here(Math.min(value, at.at(-1))))) },
            ...names.map((label, index) => ({
              label,
              stroke: dots[index],
              width: 2,
              paths,
              points: { show: false },
              value: (_, value) => (value === null ? "" : whole.format(value)),
            })),
          ],
        },
        [[...at, end], ...series.map((each) => [...each, each.at(-1)])],
        place,
      ),
    );
  };

  const charts = () => [...document.querySelectorAll("[data-chart]")];
  const drawAll = () => charts().forEach(draw);
  drawAll();
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    opened = [];
    for (const figure of charts()) if (!figure.classList.contains("drawn")) draw(figure);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let resizing;
  addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(drawAll, 150);
  });
})();
