// What is wider than the window scrolls; with the keyboard, too, where it does not fit.
const reachable = () => document.querySelectorAll(".scroll, .wide").forEach((box) => {
  const scrolls = box.scrollWidth > box.clientWidth;
  box.toggleAttribute("tabindex", scrolls);
  if (scrolls) {
    const heading = box.closest("section")?.querySelector("h2");
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", heading ? heading.textContent : "table");
  }
});
addEventListener("resize", reachable);
plotlyReady.finally(reachable);
