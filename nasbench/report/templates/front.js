// A click on a point, or on a number of the table, shows the candidate between the two, and marks it in both.
plotlyReady.then(() => {
  const plots = [...document.querySelectorAll("[id='front'], [id^='front-'], [id='objective']")]
    .filter((one) => one.data);
  const shown = document.getElementById("shown");
  const rows = [...document.querySelectorAll("tr[data-candidate]")];
  const marks = new Map();
  const place = (plot, id) => {
    for (const trace of plot.data) {
      const at = trace.customdata && trace.mode ? [...trace.customdata].indexOf(id) : -1;
      if (at >= 0) return {x: [[trace.x[at]]], y: [[trace.y[at]]]};
    }
    return {x: [[]], y: [[]]};
  };
  const point = (id) => plots.forEach((plot) => {
    if (!marks.has(plot)) {
      marks.set(plot, plot.data.length);
      Plotly.addTraces(plot, {x: [], y: [], mode: "markers", hoverinfo: "skip", showlegend: false,
        marker: {symbol: "circle-open", size: 24, color: "#1c2126", line: {width: 2}}});
    }
    Plotly.restyle(plot, place(plot, id), [marks.get(plot)]);
  });
  const show = (id, hover) => {
    const told = document.getElementById("told-" + id);
    shown.replaceChildren();
    if (told) {
      shown.append(told.content.cloneNode(true));
      const from = document.getElementById(told.dataset.drawing);
      if (from) {
        const scroll = document.createElement("div");
        scroll.className = "scroll";
        scroll.append((from.content || from).querySelector("svg").cloneNode(true));
        shown.append(scroll);
      }
    } else {
      const text = document.createElement("p");
      text.innerHTML = hover;
      const note = document.createElement("p");
      note.className = "note";
      note.textContent = "Not on the front, so it is not drawn here; nasbench draw SPACE ARCHITECTURE draws it.";
      shown.append(text, note);
    }
    shown.classList.add("full");
    for (const row of rows) {
      const on = row.dataset.candidate === String(id);
      row.classList.toggle("on", on);
      row.querySelector("button").setAttribute("aria-pressed", String(on));
    }
    point(id);
  };
  plots.forEach((plot) => plot.on("plotly_click", (event) => {
    const hit = event.points.find((one) => one.customdata !== undefined);
    if (!hit) return;
    show(hit.customdata, hit.hovertext || "");
    shown.scrollIntoView({block: "nearest"});
  }));
  rows.forEach((row, index) => {
    const button = row.querySelector("button");
    button.addEventListener("click", () => {
      show(Number(row.dataset.candidate), "");
      shown.scrollIntoView({block: "nearest"});
    });
    button.addEventListener("keydown", (event) => {
      const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
      const next = step && rows[index + step];
      if (!next) return;
      event.preventDefault();
      next.querySelector("button").focus();
      show(Number(next.dataset.candidate), "");
    });
  });
});
