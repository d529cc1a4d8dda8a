"""Fine-tuning of a vision transformer on labelled images: two stages, `full` or `lora`, stopped and gone on."""
