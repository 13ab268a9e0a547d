// Finds runtime.patience before the configuration is fully read: MPI starts and ranks wait for each other before the
// configuration has been checked.
#pragma once

namespace carillon {

// Takes runtime.patience from the command line, or else from the first configuration file named there. Keeps the
// default if neither has a valid value; the configuration's reader reports such errors later.
void set_patience_early(int count, char** arguments);

}  // namespace carillon
