// UTF-8 for Oniguruma, with the character classes of unicode_tables.h in place of the library's own.
#pragma once

#include <oniguruma.h>

namespace carillon {

// Initialised once, with the library; never changes after that.
OnigEncoding onig_encoding();

}  // namespace carillon
