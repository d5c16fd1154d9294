"""What a machine has that training needs, tried out: ``ccscale doctor``."""
