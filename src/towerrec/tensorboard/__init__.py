"""What a run leaves for TensorBoard beside the scalars that Lightning logs.

`results.begin` writes the config, the data report and a row of HParams before training, `histograms.Histograms` watches
the validations, and `results.write` adds test figures, the report's charts and the projector once the run is judged.
"""
