"""The task of iris with an older scikit-learn, which is included in the pex of this model."""
