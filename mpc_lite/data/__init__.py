"""Images and masks for training: manifests, the field's lists, the stream of batches, augmentation."""
