"""How far data is from what a base model was pretrained on."""
