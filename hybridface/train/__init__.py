"""Training of patch networks by distillation: no labels are needed, only photos of faces and a teacher.

chips: photos to aligned faces, kept on disk. views: changed copies of the faces and the teacher's answers to them.
student: the network while it learns. losses, loop: how it learns. export: to the file that `load_model` reads.
accuracy: what it is worth on pairs.
"""
