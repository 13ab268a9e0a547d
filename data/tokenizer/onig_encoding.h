// UTF-8 for Oniguruma, with the character classes of unicode_tables.h instead of the library's.
#pragma once

#include <oniguruma.h>

namespace carillon {

// Initialised once, together with the library; immutable afterwards.
OnigEncoding onig_encoding();

}  // namespace carillon
