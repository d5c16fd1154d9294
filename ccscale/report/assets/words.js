// Names and explanations of all figures, shown wherever a figure appears.

const WORDS = {
  acc: ["ACC", "Clustering accuracy: the fraction of labelled images that are right under the best one-to-one matching of clusters and classes. If a class is split evenly over two clusters, half of it counts as wrong. 1: all are right; about 1 / number of classes by chance."],
  nmi: ["NMI", "Normalized mutual information of clusters and classes. 0: they are independent; 1: they are the same. It rises with the number of clusters."],
  ari: ["ARI", "Adjusted Rand index: agreement of clusters and classes on which pairs of images belong together, beyond chance. 0: chance; 1: the same partition."],
  purity: ["purity", "The fraction of labelled images that have the most common class of their cluster: like ACC, but several clusters may share a class. It rises with the number of clusters."],
  f: ["F", "Pairwise F-measure: the harmonic mean of precision (pairs in the same cluster that are of the same class) and recall (pairs of the same class that are in the same cluster)."],
  images: ["images", "The number of images evaluated."],
  used: ["clusters with images", "Clusters with at least one image. The others are empty: they were never used, or were lost in training."],
  effective_clusters: ["effective clusters", "The exponential of the entropy of the cluster sizes: the number of equally large clusters with the same entropy. Near the number of clusters: all are used about equally. Far below: a few hold nearly all images."],
  entropy: ["entropy of sizes", "How evenly images are distributed over the clusters, in nats: the logarithm of their number if all are of equal size, 0 if one holds all images."],
  largest: ["share of the largest cluster", "The fraction of images in the largest cluster. It may be large if classes differ in size; near 100% the clusters have collapsed."],
  confidence: ["mean confidence", "The mean soft assignment of images to their clusters. It is overconfident; the calibrated confidence is more reliable (`ccscale evaluate`)."],
  information: ["information", "Mutual information of images and clusters, in nats: high if clusters are of similar size and each assignment is confident. At most the logarithm of the number of clusters; near 0 the assignments carry no information. It needs no labels."],
  stability: ["stability", "How often two random views of an image (crops, colours) fall into the same cluster, beyond chance. 1: always; 0: as often as by chance. It needs no labels. A few coarse clusters are easily stable: compare only runs with the same number of clusters."],
  labelled: ["images with a label", "Images with a known class. Labels are used only to measure, never to train or choose."],
  undecodable: ["images that cannot be decoded", "They have no cluster; the run's assignments.parquet lists them."],
  kappa: ["kappa", "How often an image and a near neighbour, by the backbone's features, are in the same cluster, beyond chance (Cohen's kappa). 0: as often as by chance; 1: always. Heads that differ by less than .02 are equally good. It needs no labels."],
  ece: ["expected calibration error", "The mean difference between confidence and accuracy, over 15 bins of confidence. 0: of the images with a confidence of .8, 80% are right."],
  coverage: ["accuracy on the most confident", "The accuracy if only the most confident images are answered. It should rise as more are left out; a flat line means that the confidence carries no information."],
  majority: ["majority", "The most common classes among the cluster's labelled images."],
  cosine: ["nearest by features", "The cosine of the mean features of two clusters: 1 is the same direction. Very near clusters may be halves of one: compare them, and give them the same name if they mean the same to you."],
  second: ["second choices", "The clusters that are the second choice of this cluster's images, with the number of images."],
  doubtful: ["most doubtful", "Images with the smallest margin over the second choice or, if that is unknown, the lowest confidence. Errors are found here first."],
  loss: ["losses", "Instance: two views of an image should be nearer to each other than to other images. Cluster: the same for the two views of a cluster (its column of assignments), and no cluster should become empty. Training minimizes the total."],
  lr: ["learning rate", "The learning rate of the heads at each step."],
  rate: ["images per second", "Over all ranks."],
  self: ["self-labelling", "The stage after training in which confident images are used as labels; it ends early if that makes the clusters worse."],
  scores: ["scores", "ACC, NMI and ARI against the labels, if there are any; each is explained in the overview."],
  versions: ["version", "Every change of living clusters makes a new version, with a number, a reason and a date; you can return to any of them."],
  drift: ["drift", "How the images of a shard differ from known ones. Features: how well they can be told from known images of the same cluster (0.5: not at all). Confidence: how often they are more, or less, confident than these (0.5: equally often). Sizes: how much the cluster shares differ. Without a cluster: the fraction that fits no cluster. For each, a permutation test gives the probability by chance; there is an alarm if it is at most .005 and the figure is large."],
};
const TITLES = {
  Losses: "loss", "Scores against the labels": "scores", "Effective clusters": "effective_clusters", "Entropy and information (nats)": "information",
  Confidence: "confidence", "Self-labelling": "self", "Images per second": "rate", "Learning rate": "lr", "Accuracy on the most confident images": "coverage",
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
