"""A trained model that answers over HTTP, and takes over the next step's while it does. What is
here knows a model by what `kaizen/inference/answering.py` says of one, and imports no torch: an
exported model is served without it. It trains nothing, and changes no stream.
"""
