"""A trained model in use: loaded from its folder, and asked about images, one or a folder of
millions. Nothing that trains, and nothing of plan, store or workflow: a copied folder is enough.
"""
