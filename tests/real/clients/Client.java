import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

class Client {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("HttpClient")) {
            var client = HttpClient.newBuilder().build();
            System.out.println(client.send(HttpRequest.newBuilder(URI.create(args[1])).build(), HttpResponse.BodyHandlers.ofString()).body());
        } else {
            System.out.println(new String(new URL(args[1]).openConnection().getInputStream().readAllBytes()));
        }
    }
}
