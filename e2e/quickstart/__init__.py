"""The first story: a model is approved, served, replaced under judgement, and a bad one is rolled back."""
