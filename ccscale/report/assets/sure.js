// How sure the run is: what is right of the surest images, and by confidence.

const RARE = 0.005; // of the images: a bin with fewer tells nothing of them

function startSure() {
  const { trust } = data;
  if (!trust) return;
  $("sure").hidden = false;
  const { share } = trust.bins;
  const [confidence, right] = [trust.bins.confidence, trust.bins.right].map((column) => column.filter((_, i) => share[i] >= RARE));
  const calibrated = trust.ece_calibrated === undefined ? "" : `, by ${figure(trust.ece_calibrated)} once calibrated`;
  $("sure-lead").textContent = `By the labels of ${images(trust.images)}. Confidence is off by ${figure(trust.ece)}${calibrated}` +
    " (expected calibration error). Right: the image has the class that its cluster is matched with, one-to-one.";
  $("sure-lead").append(why("ece"));
  const series = (name, x, y) => ({ name, run: 0, every: 1, x, y });
  $("sure-panels").append(
    chartPanel({ title: "Accuracy on the most confident images", over: "answered", share: true,
      series: [series("right", trust.coverage.toReversed(), trust.accuracy.toReversed())] }),
    chartPanel({ title: "Accuracy by confidence", zero: true, over: calibrated ? "calibrated confidence" : "confidence", share: true,
      series: [series("right", confidence, right), series("perfectly calibrated", confidence, confidence)] }),
  );
}
