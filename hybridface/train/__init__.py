"""Train patch networks by distillation, from photos of faces and a teacher network. Labels are not needed.

- chips: align the photos, and keep the aligned crops on disk.
- views: make changed copies of the crops, and ask the teacher for their embeddings.
- student: the network while it learns.
- losses, loop: how the network learns.
- export, distil: fold the student and write the file that `load_model` reads.
- judge: run the written network on photos.
- agreement: choose a threshold without labels.
- accuracy: measure the network on pairs.
"""
