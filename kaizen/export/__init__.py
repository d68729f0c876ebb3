"""A trained model as a file or folder for others: ONNX, torch's program, the layouts of Hugging
Face, timm and Triton. Each is compared with the model before it is written; nothing is trained.
"""
