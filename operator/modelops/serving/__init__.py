"""Everything one InferenceService needs: what was seen, the decision, and the objects to apply."""
