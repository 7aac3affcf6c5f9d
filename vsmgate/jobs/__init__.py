"""The job life cycle at work: starting, polling, probing, ending."""
