"""One small module for each reader of texts: what a text must hold for it. Nothing of a reader is imported for it."""
