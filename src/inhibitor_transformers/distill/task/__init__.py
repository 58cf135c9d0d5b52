"""Fine-tuning on a task, with or without a fine-tuned teacher."""
