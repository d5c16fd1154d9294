// What each figure is called and what it means: said here, and shown wherever the figure stands.

const WORDS = {
  acc: ["ACC", "Clustering accuracy: how many of the labelled images are right if each cluster stands for one class, one-to-one, in the best way. A class that lies in two clusters counts as half wrong. 1 is all; by chance it is about 1 / number of classes."],
  nmi: ["NMI", "Normalized mutual information of clusters and classes. 0: one tells nothing of the other; 1: they are the same. It rises with the number of clusters."],
  ari: ["ARI", "Adjusted Rand index: how many pairs of images are together in both, clusters and classes, beyond chance. 0 is chance, 1 the same division."],
  purity: ["purity", "How many of the labelled images are of the most common class of their cluster: ACC with many clusters to a class. It rises with the number of clusters."],
  f: ["F", "Pairwise F-measure: of the pairs in one cluster, how many are of one class; of the pairs of one class, how many are in one cluster; the harmonic mean of both."],
  images: ["images", "All images that were looked at."],
  used: ["clusters with images", "Clusters that some image was assigned to. The others are empty: there was nothing left for them, or training lost them."],
  effective_clusters: ["effective clusters", "e to the power of the sizes' entropy: so many clusters of equal size would be as uneven as these. Near the number of clusters: all are used alike. Far below: a few hold nearly all images."],
  entropy: ["entropy of sizes", "How evenly images lie in the clusters, in nats: the logarithm of their number if all are of one size, 0 if one holds all."],
  largest: ["share of the largest cluster", "How many of the images lie in the largest cluster. Where kinds differ in size it may well be large; near 100% the clusters have collapsed."],
  confidence: ["mean confidence", "The soft assignment of an image to its cluster, on average. As it stands it says too much; what it is worth, the calibration tells (`ccscale evaluate`)."],
  information: ["information", "Mutual information of image and cluster, in nats: high if images are divided evenly, and each surely. The logarithm of the number of clusters at most; near 0 the assignments tell nothing. It needs no labels."],
  stability: ["stability", "Two random views of an image (cuts, colours): how often both land in one cluster, beyond chance. 1: always; 0: as by chance. It needs no labels. Few, coarse clusters are stable easily: compare runs with as many clusters."],
  labelled: ["images with a label", "Images whose class is known. Labels are only measured with: they choose nothing and train nothing."],
  undecodable: ["images that cannot be decoded", "They have no cluster; they are told in the run's assignments.parquet."],
  kappa: ["kappa", "How many images are in one cluster with a near neighbour, by the backbone's features, beyond chance (Cohen's kappa). 0: as by chance; 1: all. Of two heads within .02 either may be the better one. It needs no labels."],
  ece: ["expected calibration error", "Images are sorted into 15 bins by their confidence; in each, the confidence is compared with how many are right. The mean difference. 0: of the images with a confidence of .8, 80% are right."],
  coverage: ["right of the surest", "If only the surest images are answered, so many of them are right. The more are left out, the better the rest should be: a flat line says that the confidence tells nothing."],
  majority: ["majority", "The most common classes among the cluster's labelled images."],
  cosine: ["nearest by features", "The cosine of the clusters' mean features: 1 is the same direction. Clusters that are very near may be halves of one: look at both, and join them by name if they are the same to you."],
  second: ["second choices", "Where the cluster's images would have gone next, and how many of them."],
  doubtful: ["most doubtful", "Images with the smallest lead over the second choice; where that is not known, of the lowest confidence. Faults are found here first."],
  loss: ["losses", "Instance: two views of an image should be nearer to each other than to other images. Cluster: two views of a cluster, the column of all assignments to it, likewise; and no cluster may be empty. The total is what training lowers."],
  lr: ["learning rate", "How far a step moves the weights."],
  rate: ["images a second", "Of all ranks together."],
  self: ["self-labelling", "The stage after training in which images that are sure label themselves; it ends by itself where that makes clusters worse."],
  scores: ["scores", "ACC, NMI and ARI against the labels, where there are some: see each in the overview."],
  versions: ["version", "Living clusters change by versions only; each has a number, a reason and a date, and can be gone back to."],
  drift: ["drift", "How a shard's images differ from those that the clusters know. Features: how well they are told from known images of the same cluster (0.5: not at all). Confidence: how often they are surer, or less sure, than these (0.5: as often). Sizes: how far the clusters' shares differ. Without a cluster: the share that fits nowhere. Each has a chance, by a permutation test; there is an alarm where it is at most .005 and the figure large."],
};
const TITLES = {
  Losses: "loss", "Scores against the labels": "scores", "Effective clusters": "effective_clusters", "Entropy and information (nats)": "information",
  Confidence: "confidence", "Self-labelling": "self", "Images a second": "rate", "Learning rate": "lr", "Accuracy on the most confident images": "coverage",
  "Accuracy by confidence": "ece",
};

/** Return a title, and beside it what explains it. */
const explained = (title, name) => (WORDS[name] ? el("span", {}, title, why(name)) : title);

/** Return a button that explains a figure on hover, focus or a tap; null for one that nothing is said of. */
function why(name) {
  if (!WORDS[name]) return null;
  const [title, text] = WORDS[name];
  if (!$(`why-${name}`)) $("words").append(el("span", { id: `why-${name}` }, text));
  const made = el("button", { type: "button", className: "why", "aria-label": `What is ${title}?`, "aria-describedby": `why-${name}` });
  const show = () => {
    const box = made.getBoundingClientRect();
    const word = $("why");
    word.replaceChildren(el("strong", {}, title), el("br"), text);
    word.hidden = false;
    word.style.left = `${Math.max(8, Math.min(innerWidth - word.offsetWidth - 8, box.left - 12))}px`;
    const below = box.bottom + 6;
    word.style.top = `${below + word.offsetHeight > innerHeight - 8 ? Math.max(8, box.top - 6 - word.offsetHeight) : below}px`;
  };
  const hide = () => ($("why").hidden = true);
  made.addEventListener("pointerenter", show);
  made.addEventListener("pointerleave", () => document.activeElement !== made && hide());
  made.addEventListener("focus", show);
  made.addEventListener("click", show);
  made.addEventListener("blur", hide);
  made.addEventListener("keydown", (event) => event.key === "Escape" && (hide(), event.stopPropagation()));
  return made;
}
