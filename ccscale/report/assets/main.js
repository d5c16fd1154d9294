// Starts every part; then the bar of sections follows the reading.

function startSections() {
  const sections = [...document.querySelectorAll("main > section:not([hidden])")];
  const links = sections.map((section) => el("a", { href: `#${section.id}` }, section.querySelector("h2").textContent));
  $("sections").append(...links.map((link) => el("li", {}, link)));
  const inView = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) inView[isIntersecting ? "add" : "delete"](target);
    const current = sections.findIndex((section) => inView.has(section));
    links.forEach((link, i) => (i === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
  }, { rootMargin: "-25% 0px -60% 0px" });
  sections.forEach((section) => observer.observe(section));
}

onPaper.start();
startTheme();
startOverview();
startTimeline();
startHowMany();
startCurves();
startSure();
startSizes();
startMap();
startConfusion();
startSections();
startSelection();
startViewer();
startClusters(); // last: a link to a cluster scrolls to where it then is
document.documentElement.dataset.ready = "true";
performance.mark("interactive");
