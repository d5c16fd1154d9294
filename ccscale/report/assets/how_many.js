// How many clusters there seem to be: the advice, and the curve of each criterion.

function startHowMany() {
  const advice = data.how_many;
  if (!advice) return;
  $("how-many").hidden = false;
  $("how-many-lead").textContent = `${advice.sentence[0].toUpperCase()}${advice.sentence.slice(1)}. Of ${images(advice.images)}, by the ` +
    `${advice.features === "instance" ? "instance head's embeddings" : "backbone's features"}, without labels. The range is shaded; a dot is a vote.`;
  $("how-many-body").append(el("div", { className: "panels" }, ...advice.panels.map(chartPanel)));
  if (advice.heads) {
    const rows = advice.heads.map((head) => [count(head.clusters), figure(head.stability)]);
    $("how-many-body").append(tableDetails(`The run's own heads, which are not counted: they vote for ${count(advice.heads_vote)}`, () => table("Heads", [["K"], ["stability"]], rows)));
  }
}
