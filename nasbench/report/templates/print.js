// Plotly draws in pixels, so a page as wide as a screen would be cut off by the paper.
addEventListener("beforeprint", () => document.querySelectorAll(".js-plotly-plot").forEach((plot) => {
  const width = plot.closest(".panels") ? 330 : plot.closest(".square") ? 480 : 680;
  Plotly.relayout(plot, {width: width, autosize: false});
}));
addEventListener("afterprint", () => document.querySelectorAll(".js-plotly-plot").forEach((plot) => {
  Plotly.relayout(plot, {width: null, autosize: true});
}));
