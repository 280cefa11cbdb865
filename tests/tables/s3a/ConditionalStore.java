import java.io.FileNotFoundException;
import java.io.IOException;
import java.net.URI;
import org.apache.hadoop.fs.CreateFlag;
import org.apache.hadoop.fs.FileAlreadyExistsException;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FSDataOutputStreamBuilder;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RawLocalFileSystem;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.util.Progressable;

/** A local directory that creates files as S3A does: a file appears when its stream is closed. By default the check
 *  whether the file exists comes before the stream is opened, and a file that was created since is overwritten. With
 *  fs.s3a.performance.flags=create, or with the option for conditional writes, the store checks when the stream is
 *  closed. */
public class ConditionalStore extends RawLocalFileSystem {
  public static class RemoteFileChangedException extends IOException {
    RemoteFileChangedException(Path path) {
      super("PUT " + path + ": At least one of the pre-conditions you specified did not hold");
    }
  }

  @Override
  public URI getUri() {
    return URI.create("s3a:///");
  }

  @Override
  protected void checkPath(Path path) {}

  @Override
  public FSDataOutputStream create(
      Path path, boolean overwrite, int buffer, short copies, long block, Progressable progress) throws IOException {
    return begin(path, overwrite, false);
  }

  private FSDataOutputStream begin(Path path, boolean overwrite, boolean conditional) throws IOException {
    boolean quick = getConf().get("fs.s3a.performance.flags", "").equals("create");
    if (!overwrite && !quick && pathToFile(path).exists()) {
      throw new FileAlreadyExistsException(path.toString());
    }
    return put(path, !overwrite && (quick || conditional));
  }

  private FSDataOutputStream put(Path path, boolean onlyNew) throws IOException {
    Path upload = new Path(path.getParent(), "." + path.getName() + "." + System.nanoTime());
    FSDataOutputStream written =
        super.create(upload, FsPermission.getFileDefault(), true, 4096, (short) 1, 1L << 20, null);
    return new FSDataOutputStream(written, null) {
      @Override
      public void close() throws IOException {
        super.close();
        if (onlyNew && pathToFile(path).exists()) {
          delete(upload, false);
          throw new RemoteFileChangedException(path);
        }
        if (!pathToFile(upload).renameTo(pathToFile(path))) {
          throw new FileNotFoundException(path.toString());
        }
      }
    };
  }

  @Override
  public FSDataOutputStreamBuilder<?, ?> createFile(Path path) {
    return new Builder(this, path);
  }

  public static class Builder extends FSDataOutputStreamBuilder<FSDataOutputStream, Builder> {
    private final ConditionalStore store;

    Builder(ConditionalStore store, Path path) {
      super(store, path);
      this.store = store;
    }

    @Override
    public Builder getThisBuilder() {
      return this;
    }

    @Override
    public FSDataOutputStream build() throws IOException {
      boolean asked = getOptions().getBoolean("fs.option.create.conditional.overwrite", false);
      return store.begin(getPath(), getFlags().contains(CreateFlag.OVERWRITE), asked);
    }
  }
}
