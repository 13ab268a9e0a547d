// How folders and patterns expand to files.
#include "data/corpus/data_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/error.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(DataFiles, KindsByName) {
  const auto is = [](const char* path, DataContent content, Packer packer) {
    const DataKind kind = data_kind_of(path);
    return kind.content == content && kind.packer == packer;
  };
  EXPECT_TRUE(is("a/b.jsonl", DataContent::kJsonLines, Packer::kNone));
  EXPECT_TRUE(is("a.jsonl.gz", DataContent::kJsonLines, Packer::kGzip));
  EXPECT_TRUE(is("a.jsonl.zst", DataContent::kJsonLines, Packer::kZstd));
  EXPECT_TRUE(is("a.txt.zst", DataContent::kText, Packer::kZstd));
  EXPECT_TRUE(is("a.h5", DataContent::kTokens, Packer::kNone));
  EXPECT_TRUE(is("a.h5.gz", DataContent::kUnknown, Packer::kGzip)) << "HDF5 is read by place";
  EXPECT_TRUE(is("a.json", DataContent::kUnknown, Packer::kNone));
  EXPECT_TRUE(is("jsonl", DataContent::kUnknown, Packer::kNone));
}

TEST(DataFiles, FoldersAndPatternsAreSortedAndSaid) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "d/sub/.cache");
  for (const char* name : {"d/b.jsonl", "d/a.jsonl.gz", "d/B.txt", "d/sub/c.jsonl.zst", "d/README.md",
                           "d/.hidden.jsonl", "d/sub/.cache/x.jsonl", "d/x.jsonl.tmp", "d/a[1].jsonl"})
    folder.write(name, "x");
  const DataFiles all = find_data_files({folder / "d"});
  EXPECT_THAT(all.paths, ElementsAre(folder / "d/B.txt", folder / "d/a.jsonl.gz", folder / "d/a[1].jsonl",
                                     folder / "d/b.jsonl", folder / "d/sub/c.jsonl.zst"));
  ASSERT_EQ(all.notices.size(), 3u);
  EXPECT_THAT(all.notices[0], ::testing::AllOf(HasSubstr("5 files"), HasSubstr("left out 2"), HasSubstr("README.md"),
                                               HasSubstr("x.jsonl.tmp")));
  EXPECT_THAT(all.notices[1], ::testing::AllOf(HasSubstr("gzip"), HasSubstr("a.jsonl.gz")));
  EXPECT_THAT(all.notices[2], HasSubstr("zstd"));
  // Entries keep their order; a pattern's matches are sorted by bytes.
  EXPECT_THAT(find_data_files({folder / "d/b.jsonl", folder / "d/[aB]*"}).paths,
              ElementsAre(folder / "d/b.jsonl", folder / "d/B.txt", folder / "d/a.jsonl.gz", folder / "d/a[1].jsonl"));
  EXPECT_THAT(find_data_files({folder / "*"}).paths, ::testing::SizeIs(5)) << "a pattern may match a folder";
  // An existing path is not a pattern, and a file that is named explicitly is never left out because of its name.
  EXPECT_THAT(find_data_files({folder / "d/a[1].jsonl", folder / "d/.hidden.jsonl", folder / "d/README.md"}).paths,
              ElementsAre(folder / "d/a[1].jsonl", folder / "d/.hidden.jsonl", folder / "d/README.md"));
}

TEST(DataFiles, NothingIsAnErrorThatNamesIt) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "empty");
  folder.write("a.md", "x");
  for (const std::string& entry : {folder / "empty", folder / "*.jsonl", folder / "a.m?", folder / "none.jsonl"}) {
    try {
      find_data_files({entry});
      ADD_FAILURE() << entry;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kMissingInput) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(entry));
    }
  }
}

}  // namespace
}  // namespace carillon::testing
