// How sure the run is: what is right of the surest images, and by confidence.

const RARE = 0.005; // of the images: a bin with fewer tells nothing of them

function startSure() {
  const { trust } = data;
  if (!trust) return;
  $("sure").hidden = false;
  const { share } = trust.bins;
  const [confidence, right] = [trust.bins.confidence, trust.bins.right].map((column) => column.filter((_, i) => share[i] >= RARE));
  const calibrated = trust.ece_calibrated === undefined ? "" : `, calibrated by ${figure(trust.ece_calibrated)}`;
  $("sure-lead").textContent = `By the labels of ${images(trust.images)}. The confidence is off by ${figure(trust.ece)}${calibrated}` +
    " (expected calibration error). Right: of the class that the cluster stands for, one-to-one.";
  $("sure-lead").append(why("ece"));
  const series = (name, x, y) => ({ name, run: 0, every: 1, x, y });
  $("sure-panels").append(
    chartPanel({ title: "Right of the surest images", over: "answered", share: true,
      series: [series("right", trust.coverage.toReversed(), trust.accuracy.toReversed())] }),
    chartPanel({ title: "Right by confidence", zero: true, over: calibrated ? "calibrated confidence" : "confidence", share: true,
      series: [series("right", confidence, right), series("as the confidence says", confidence, confidence)] }),
  );
}
