function onPreSave(request, response, modules) {
  var collectionAccess = modules.collectionAccess
    , userCollection = collectionAccess.collection('user')
    , utils = modules.utils
    , push = modules.push
    , template = '{{name}}, {{headline}} is new in {{section}}!'
    , pushedMessageCount = 0
    , userCount;

  // Find everyone who follows the section that this story is saved to
  userCollection.find({"follows": request.body.section}, function(err, userDocs){
    // How many messages there are to send
    userCount = userDocs.length;

    // Each user gets a text of their own
    userDocs.forEach(function(doc){
      var values = {
        name: doc.givenName,
        headline: request.body.headline,
        section: request.body.section
      };

      // Render the message
      var message = utils.renderTemplate(template, values);

      // Send it
      push.send(doc, message);

      // Count what was sent, and who is left
      pushedMessageCount++;
      userCount--;

      if (userCount <= 0){
        // Nobody is left: answer the request
        response.body = {"message": "Attempted to push " + pushedMessageCount + " messages."};
        response.complete(200);
      }
    });
  });
}
