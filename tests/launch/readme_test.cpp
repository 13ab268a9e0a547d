// The key tables of launch/README.md are those generated from the declarations.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "launch/config/run_config.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

TEST(Readme, ListsTheKeysAsTheyAreDeclared) {
  const std::string path = std::string(CARILLON_SOURCE) + "/launch/README.md";
  const std::string text = read_whole(path), begin = "<!-- keys -->\n", end = "<!-- end of keys -->";
  const size_t from = text.find(begin), to = text.find(end);
  ASSERT_TRUE(from != std::string::npos && to != std::string::npos) << path;
  RunConfig config;
  Schema schema;
  declare_run(schema, config);
  const std::string tables = schema.markdown();
  if (std::getenv("UPDATE_README") != nullptr)
    std::ofstream(path) << text.substr(0, from) << begin << tables << text.substr(to);
  else
    EXPECT_EQ(text.substr(from + begin.size(), to - from - begin.size()), tables) << "UPDATE_README=1 writes it again";
}

}  // namespace
}  // namespace carillon::testing
