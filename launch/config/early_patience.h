// runtime.patience before the configuration is read in earnest: MPI starts, and ranks wait for each other, before it is
// known whether the configuration is any good.
#pragma once

namespace carillon {

// Takes runtime.patience from the command line, else from the first configuration file named there; leaves it at its
// default where neither has a value that can be understood. Mistakes are for the reader of the configuration to tell.
void set_patience_early(int count, char** arguments);

}  // namespace carillon
