"""ccscale groups images without labels, at any scale (Contrastive Clustering, Li et al., AAAI 2021)."""
