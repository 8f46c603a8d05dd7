"""Many machines: one optimizer over the processes of MPI, with the same bits for any number.

`sharded` makes an optimizer of which every process has a share. It needs ``mpi4py``
(``pip install 'thalweg[mpi]'``), and a library and launcher of MPI, such as ``pip install mpich``.
"""

from thalweg.mpi.optimizer import Sharded, sharded
from thalweg.mpi.transport import Transport

__all__ = ["Sharded", "Transport", "sharded"]
