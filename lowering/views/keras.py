"""The ops of this dialect have no classes. (Where there is no module, the bindings look for it with every op
that they show: this one makes canonicalizing a ResNet-50 step several times as fast.)
"""
