"""Fits and forecasts many time series in the request, with exponential smoothing of statsmodels."""
