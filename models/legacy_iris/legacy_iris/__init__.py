"""The task of iris with an older scikit-learn, which travels in this model's own pex."""
