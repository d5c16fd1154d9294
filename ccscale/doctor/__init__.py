"""``ccscale doctor``: checks, by trying, that a machine has everything that training needs."""
