"""Students of kind probe and vit: what they learn from, folds, folders, and features for the fusion."""
